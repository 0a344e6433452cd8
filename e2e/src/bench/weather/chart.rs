//! Requests a second as a picture: two comparisons go in, an SVG with a bar for each system comes out.

use std::fmt::Write as _;

use super::figures::Comparison;
use super::systems::WEATHER;

const WIDTH: u32 = 1000;
const MARGIN: u32 = 24;
/// Where bars begin, and how wide the longest is.
const LEFT: u32 = 250;
const LONGEST: f64 = 620.0;
const ROW: u32 = 34;
const BAR: u32 = 22;
const TITLE: u32 = 44;

/// Light and dark, as the reader has it.
const STYLE: &str = "
    .paper { fill: #ffffff; } text { fill: #1d2733; font-size: 17px; } .title { font-weight: 600; }
    .other { fill: #8795a8; } .ours { fill: #3f9c63; }
    @media (prefers-color-scheme: dark) {
      .paper { fill: #14181e; } text { fill: #e8edf3; } .other { fill: #66758a; } .ours { fill: #4caf73; }
    }
  ";

/// Both comparisons, one below the other; each bar is a ratio to the system that its comparison is with.
pub fn svg(stateless: &Comparison, handshake: &Comparison) -> String {
    let panels = [
        ("Stateless tool calls per second", stateless),
        ("Handshake, then a tool call, per second", handshake),
    ];
    let height = |(_, compared): &(&str, &Comparison)| TITLE + ROW * count(compared);
    let total = 2 * MARGIN + panels.iter().map(height).sum::<u32>();
    let mut out = format!(
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {total}" role="img" aria-labelledby="title" font-family="system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif">
  <title id="title">Tool calls per second of MCP servers on one core</title>
  <style>{STYLE}</style>
  <rect class="paper" width="{WIDTH}" height="{total}"/>
"#
    );
    let mut top = MARGIN;
    for panel in &panels {
        add_panel(&mut out, top, panel.0, panel.1);
        top += height(panel);
    }
    out.push_str("</svg>\n");
    out
}

fn count(compared: &Comparison) -> u32 {
    u32::try_from(compared.systems.len()).unwrap_or(u32::MAX)
}

fn add_panel(out: &mut String, top: u32, title: &str, compared: &Comparison) {
    let most = compared
        .systems
        .iter()
        .map(|system| system.throughput_ratio)
        .fold(f64::MIN_POSITIVE, f64::max);
    let baseline = top + 20;
    // Writing to a String cannot fail.
    let _ = writeln!(
        out,
        r#"  <text class="title" x="{MARGIN}" y="{baseline}">{title}, in parts of {}</text>"#,
        compared.with
    );
    for (row, system) in (0..).zip(&compared.systems) {
        let y = top + TITLE + ROW * row;
        let class = if system.name == WEATHER { "ours" } else { "other" };
        let width = (system.throughput_ratio / most * LONGEST).max(1.0);
        let baseline = y + 17;
        let ratio = short(system.throughput_ratio);
        let after = f64::from(LEFT) + width + 8.0;
        let _ = writeln!(
            out,
            r#"  <text x="{MARGIN}" y="{baseline}">{}</text>
  <rect class="{class}" x="{LEFT}" y="{y}" width="{width:.1}" height="{BAR}"/>
  <text x="{after:.1}" y="{baseline}">{ratio}</text>"#,
            system.name
        );
    }
}

/// Two digits that count.
fn short(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 10.0 => format!("{ratio:.0}"),
        ratio if ratio >= 1.0 => format!("{ratio:.1}"),
        ratio if ratio >= 0.1 => format!("{ratio:.2}"),
        ratio => format!("{ratio:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::weather::figures::tests::rounds;

    #[test]
    fn each_system_has_a_bar_of_its_length() {
        let stateless = vec![
            rounds("bare", &[100.0]),
            rounds(WEATHER, &[50.0]),
            rounds("slow", &[0.5]),
        ];
        let handshake = vec![rounds(WEATHER, &[300.0]), rounds("slow", &[10.0])];
        let stateless = Comparison::with("bare", stateless).unwrap();
        let handshake = Comparison::with("slow", handshake).unwrap();
        let svg = svg(&stateless, &handshake);
        for part in [
            r#"class="other" x="250" y="68" width="620.0""#,
            r#"class="ours" x="250" y="102" width="310.0""#,
            ">0.50</text>",
            ">0.005</text>",
            r#"class="ours" x="250" y="214" width="620.0""#,
            ">30</text>",
            "in parts of bare",
        ] {
            assert!(svg.contains(part), "{part} is not in\n{svg}");
        }
        assert_eq!(svg.matches("<rect class=\"o").count(), 5);
        let mut reader = quick_xml::Reader::from_str(&svg);
        while !matches!(reader.read_event().unwrap(), quick_xml::events::Event::Eof) {}
    }
}
