//! Last step: measurements of all systems go in, ratios to the bare handler and a table come out.

use anyhow::{Context, Result};
use serde::Serialize;

use super::system::{Load, Round, System};
use crate::bench::statistics::median;
use crate::bench::table::Table;

pub const BARE: &str = "bare axum handler";
pub const WEATHER: &str = "mcp-weather";
pub const FASTMCP: &str = "FastMCP 4.1.2";

/// One system, medians over its rounds.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: &'static str,
    pub requests_per_second: f64,
    pub p50_microseconds: f64,
    pub p99_microseconds: f64,
    pub cpu_microseconds_per_call: f64,
    pub load_microseconds_per_call: f64,
    pub busy: f64,
    /// Requests/s in parts of the bare handler's: the median of what each round gave.
    pub throughput_to_bare: f64,
    pub p99_to_bare: f64,
    pub cpu_to_bare: f64,
    pub idle_rss_kib: u64,
    pub most_rss_kib: u64,
    pub start_milliseconds: f64,
    pub answer_bytes: usize,
    pub rounds: Vec<Round>,
}

/// Memory of the weather server with streams open.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Streams {
    pub count: usize,
    pub rss_kib: u64,
}

#[derive(Debug, Serialize)]
pub struct Report {
    pub profile: String,
    pub connections: usize,
    pub seconds_per_round: f64,
    pub systems: Vec<Measured>,
    pub streams: Option<Streams>,
}

/// Still without its ratios, which need the bare handler's rounds.
pub fn measured(system: &System, rounds: Vec<Round>) -> Result<Measured> {
    let middle = |value: fn(&Round) -> f64| -> Result<f64> {
        let values: Vec<f64> = rounds.iter().map(value).collect();
        median(&values).context("no rounds")
    };
    Ok(Measured {
        name: system.name,
        requests_per_second: middle(|round| round.requests_per_second)?,
        p50_microseconds: middle(|round| round.seen.p50_microseconds.into())?,
        p99_microseconds: middle(|round| round.seen.p99_microseconds.into())?,
        cpu_microseconds_per_call: middle(|round| round.cpu_microseconds_per_call)?,
        load_microseconds_per_call: middle(|round| round.load_microseconds_per_call)?,
        busy: middle(|round| round.busy)?,
        throughput_to_bare: 1.0,
        p99_to_bare: 1.0,
        cpu_to_bare: 1.0,
        idle_rss_kib: system.idle.now,
        most_rss_kib: system.process.memory()?.most,
        start_milliseconds: system.start.as_secs_f64() * 1000.0,
        answer_bytes: system.answer.len(),
        rounds,
    })
}

impl Report {
    /// Each round is compared with the bare handler's round beside it, so that what slows the machine for a while slows both.
    pub fn of(
        profile: &str,
        load: Load,
        mut systems: Vec<Measured>,
        streams: Option<Streams>,
    ) -> Result<Self> {
        let bare = systems.iter().find(|system| system.name == BARE);
        let bare = bare.context("no bare handler")?.rounds.clone();
        for system in &mut systems {
            let ratio = |value: fn(&Round) -> f64| {
                let pairs = system.rounds.iter().zip(&bare);
                let ratios: Vec<f64> = pairs.map(|(own, bare)| value(own) / value(bare)).collect();
                median(&ratios).context("no rounds")
            };
            system.throughput_to_bare = ratio(|round| round.requests_per_second)?;
            system.p99_to_bare = ratio(|round| round.seen.p99_microseconds.into())?;
            system.cpu_to_bare = ratio(|round| round.cpu_microseconds_per_call)?;
        }
        Ok(Self {
            profile: profile.to_owned(),
            connections: load.connections,
            seconds_per_round: load.seconds,
            systems,
            streams,
        })
    }

    pub fn text(&self) -> String {
        let mut table = Table::with_head(&[
            "system", "req/s", "to bare", "p50 ms", "p99 ms", "to bare", "CPU us", "to bare", "load us",
            "core %", "idle MiB", "most MiB", "start ms",
        ]);
        for system in &self.systems {
            table.push(vec![
                system.name.to_owned(),
                format!("{:.0}", system.requests_per_second),
                format!("{:.3}", system.throughput_to_bare),
                format!("{:.2}", system.p50_microseconds / 1000.0),
                format!("{:.2}", system.p99_microseconds / 1000.0),
                format!("{:.2}", system.p99_to_bare),
                format!("{:.1}", system.cpu_microseconds_per_call),
                format!("{:.2}", system.cpu_to_bare),
                format!("{:.1}", system.load_microseconds_per_call),
                format!("{:.0}", system.busy * 100.0),
                mebibytes(system.idle_rss_kib),
                mebibytes(system.most_rss_kib),
                format!("{:.0}", system.start_milliseconds),
            ]);
        }
        let streams = self.streams.map_or_else(String::new, |streams| {
            format!(
                "\nmcp-weather with {} open SSE streams: {} MiB\n",
                streams.count,
                mebibytes(streams.rss_kib)
            )
        });
        format!(
            "{} connections, profile {}, medians of {} rounds of {} s, taking turns\n\n{table}{streams}",
            self.connections,
            self.profile,
            self.systems.first().map_or(0, |system| system.rounds.len()),
            self.seconds_per_round,
        )
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn mebibytes(kibibytes: u64) -> String {
    format!("{:.1}", kibibytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::weather::load::Seen;

    fn system(name: &'static str, rates: &[f64]) -> Measured {
        let round = |&requests_per_second| Round {
            seen: Seen {
                requests: 1,
                seconds: 1.0,
                p50_microseconds: 10,
                p99_microseconds: 20,
                max_microseconds: 30,
                load_cpu_seconds: 0.5,
            },
            cpu_microseconds_per_call: 1e6 / requests_per_second,
            load_microseconds_per_call: 5.0,
            busy: 1.0,
            requests_per_second,
        };
        Measured {
            name,
            requests_per_second: 0.0,
            p50_microseconds: 10.0,
            p99_microseconds: 20.0,
            cpu_microseconds_per_call: 0.0,
            load_microseconds_per_call: 0.0,
            busy: 0.0,
            throughput_to_bare: 0.0,
            p99_to_bare: 0.0,
            cpu_to_bare: 0.0,
            idle_rss_kib: 2048,
            most_rss_kib: 4096,
            start_milliseconds: 1.0,
            answer_bytes: 1,
            rounds: rates.iter().map(round).collect(),
        }
    }

    #[test]
    fn rounds_are_compared_pair_by_pair() {
        // The machine was slow in the second round; the ratio is the same in all three.
        let systems = vec![
            system(BARE, &[100.0, 10.0, 100.0]),
            system(WEATHER, &[80.0, 8.0, 80.0]),
        ];
        let load = Load {
            core: 1,
            connections: 50,
            seconds: 3.0,
        };
        let report = Report::of("release", load, systems, None).unwrap();
        assert!((report.systems[1].throughput_to_bare - 0.8).abs() < 1e-9);
        assert!((report.systems[1].cpu_to_bare - 1.25).abs() < 1e-9);
        assert!(report.text().contains("mcp-weather"), "{}", report.text());
    }
}
