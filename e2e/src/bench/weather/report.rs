//! Last step: everything that was measured goes in, tables for a person come out.

use std::fmt::Write as _;

use serde::Serialize;

use super::figures::{Comparison, Facts};
use super::sessions::{Churn, Group, RoundTrips, Streams};
use super::starts::Starts;
use super::systems::{BARE, SETTINGS, WEATHER};
use crate::bench::table::Table;

#[derive(Debug, Serialize)]
pub struct Report {
    pub profile: String,
    pub connections: usize,
    pub seconds_per_round: f64,
    pub rounds: usize,
    /// Of the weather server, what is not the default.
    pub settings: [(&'static str, &'static str); SETTINGS.len()],
    pub systems: Vec<Facts>,
    pub stateless: Comparison,
    pub fixed_rate: FixedRate,
    pub handshake: Comparison,
    pub starts: Starts,
    pub streams: Option<Streams>,
    pub round_trips: Option<RoundTrips>,
    pub churn: Option<Churn>,
}

#[derive(Debug, Serialize)]
pub struct FixedRate {
    pub requests_per_second: u32,
    #[serde(flatten)]
    pub compared: Comparison,
}

impl Report {
    /// Microseconds of CPU time that a call costs the load, and the bare handler. Only while the first is less is it the servers
    /// that are measured.
    fn load_and_bare(&self) -> Option<(f64, f64)> {
        let bare = self.stateless.of(BARE)?;
        Some((bare.load_microseconds_per_call, bare.cpu_microseconds_per_call))
    }

    pub fn text(&self) -> String {
        let settings: Vec<_> = self
            .settings
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let mut text = format!(
            "{} connections, profile {}, medians of {} rounds of {} s, taking turns; {WEATHER} with {}, all else as by default\n\nstateless tools/call, ratios to {}\n{}",
            self.connections,
            self.profile,
            self.rounds,
            self.seconds_per_round,
            settings.join(" "),
            self.stateless.with,
            loaded(&self.stateless),
        );
        if let Some((load, bare)) = self.load_and_bare() {
            let judged = if load < bare {
                "out-runs"
            } else {
                "DOES NOT OUT-RUN"
            };
            let _ = writeln!(
                text,
                "the load {judged} {BARE}: {load:.1} us of CPU time per call beside {bare:.1}"
            );
        }
        let _ = write!(
            text,
            "\nstateless tools/call, {} due in a second, times from when a call was due, ratios to {}\n{}\ninitialize, initialized and tools/call, ratios to {}\n{}\n{}",
            self.fixed_rate.requests_per_second,
            self.fixed_rate.compared.with,
            loaded(&self.fixed_rate.compared),
            self.handshake.with,
            loaded(&self.handshake),
            facts(&self.systems),
        );
        let _ = writeln!(
            text,
            "\n{WEATHER} from start to ready: {:.0} ms; idle, before any call: {} MiB",
            self.starts.ready_milliseconds,
            mebibytes(self.starts.idle_rss_kib)
        );
        self.add_sessions(&mut text);
        text
    }

    fn add_sessions(&self, text: &mut String) {
        if let Some(streams) = &self.streams {
            let _ = writeln!(
                text,
                "{} SSE streams, each with a handshake and 10 calls, opened in {:.1} s: {} MiB, {} once idle POST connections are closed, {} at most; {}",
                streams.count,
                streams.seconds_to_open,
                mebibytes(streams.opened_rss_kib),
                mebibytes(streams.idle_rss_kib),
                mebibytes(streams.most_rss_kib),
                match &streams.group {
                    Group::Limited {
                        version,
                        limit_bytes,
                        peak_bytes,
                    } => format!(
                        "peak of its control group (version {version}): {} of {} MiB",
                        mebibytes(peak_bytes >> 10),
                        mebibytes(limit_bytes >> 10)
                    ),
                    Group::Missing(why) => format!("WITHOUT A LIMIT OF MEMORY: {why}"),
                }
            );
        }
        if let Some(trips) = &self.round_trips {
            let _ = writeln!(
                text,
                "{} SSE streams, {} calls a second: p50 {:.2} ms, p99 {:.2} ms from due to answered on the stream",
                trips.streams, trips.calls_per_second, trips.p50_milliseconds, trips.p99_milliseconds
            );
        }
        if let Some(churn) = &self.churn {
            let _ = writeln!(
                text,
                "{} SSE sessions came and went in {:.0} s: {} MiB after the first {}, {} at most, {} at the end ({:+.1} %)",
                churn.sessions,
                churn.seconds,
                mebibytes(churn.warm_rss_kib),
                churn.warm_up_sessions,
                mebibytes(churn.most_rss_kib),
                mebibytes(churn.end_rss_kib),
                (churn.end_to_warm - 1.0) * 100.0
            );
        }
    }
}

fn loaded(compared: &Comparison) -> Table {
    let mut table = Table::with_head(&[
        "system", "per s", "ratio", "p50 ms", "p99 ms", "ratio", "CPU us", "ratio", "load us", "core %",
    ]);
    for system in &compared.systems {
        table.push(vec![
            system.name.to_owned(),
            format!("{:.0}", system.requests_per_second),
            format!("{:.3}", system.throughput_ratio),
            format!("{:.2}", system.p50_milliseconds),
            format!("{:.2}", system.p99_milliseconds),
            format!("{:.2}", system.p99_ratio),
            format!("{:.1}", system.cpu_microseconds_per_call),
            format!("{:.2}", system.cpu_ratio),
            format!("{:.1}", system.load_microseconds_per_call),
            format!("{:.0}", system.busy * 100.0),
        ]);
    }
    table
}

fn facts(systems: &[Facts]) -> Table {
    let mut table = Table::with_head(&[
        "system",
        "idle MiB",
        "most MiB",
        "first answer ms",
        "answer bytes",
    ]);
    for system in systems {
        table.push(vec![
            system.name.to_owned(),
            mebibytes(system.idle_rss_kib),
            mebibytes(system.most_rss_kib),
            format!("{:.0}", system.first_answer_milliseconds),
            system.answer_bytes.to_string(),
        ]);
    }
    table
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn mebibytes(kibibytes: u64) -> String {
    format!("{:.1}", kibibytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::weather::figures::tests::rounds;

    fn compared() -> Comparison {
        Comparison::with(BARE, vec![rounds(BARE, &[100.0]), rounds(WEATHER, &[80.0])]).unwrap()
    }

    fn report(group: Group) -> Report {
        Report {
            profile: "release".into(),
            connections: 50,
            seconds_per_round: 3.0,
            rounds: 1,
            settings: SETTINGS,
            systems: Vec::new(),
            stateless: compared(),
            fixed_rate: FixedRate {
                requests_per_second: 10_000,
                compared: compared(),
            },
            handshake: compared(),
            starts: Starts {
                ready_milliseconds: 50.0,
                idle_rss_kib: 2048,
                all_milliseconds: vec![50.0],
            },
            streams: Some(Streams {
                count: 5000,
                seconds_to_open: 9.0,
                opened_rss_kib: 4096,
                idle_rss_kib: 3072,
                most_rss_kib: 5120,
                group,
            }),
            round_trips: None,
            churn: None,
        }
    }

    #[test]
    fn says_what_limited_it() {
        let text = report(Group::Missing("read-only".into())).text();
        assert!(text.contains("WITHOUT A LIMIT OF MEMORY: read-only"), "{text}");
        assert!(text.contains("the load out-runs bare axum handler"), "{text}");
        let limited = Group::Limited {
            version: 2,
            limit_bytes: 128 << 20,
            peak_bytes: 7 << 20,
        };
        let mut report = report(limited);
        assert!(report.text().contains("(version 2): 7.0 of 128.0 MiB"));
        report.stateless.systems[0].load_microseconds_per_call = 1e9;
        assert!(report.text().contains("the load DOES NOT OUT-RUN"));
        serde_json::to_string(&report).unwrap();
    }
}
