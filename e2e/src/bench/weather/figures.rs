//! Rounds of all systems go in, medians and ratios come out.

use anyhow::{Context, Result};
use serde::Serialize;

use super::system::{Round, System};
use crate::bench::statistics::median;

/// One system's rounds.
#[derive(Debug)]
pub struct Rounds {
    pub name: &'static str,
    pub rounds: Vec<Round>,
}

/// One system under one kind of load, medians over its rounds.
#[derive(Debug, Serialize)]
pub struct Measured {
    pub name: &'static str,
    pub requests_per_second: f64,
    pub p50_milliseconds: f64,
    pub p99_milliseconds: f64,
    pub cpu_microseconds_per_call: f64,
    pub load_microseconds_per_call: f64,
    pub busy: f64,
    /// In parts of the system that it is compared with: the median of what each round gave.
    pub throughput_ratio: f64,
    pub p99_ratio: f64,
    pub cpu_ratio: f64,
    pub rounds: Vec<Round>,
}

/// One kind of load on several systems.
#[derive(Debug, Serialize)]
pub struct Comparison {
    /// The system that all ratios are to.
    pub with: &'static str,
    pub systems: Vec<Measured>,
}

/// What a system is, whatever the load.
#[derive(Debug, Serialize)]
pub struct Facts {
    pub name: &'static str,
    pub idle_rss_kib: u64,
    pub most_rss_kib: u64,
    pub first_answer_milliseconds: f64,
    pub answer_bytes: usize,
}

impl Facts {
    pub fn of(system: &System) -> Result<Self> {
        Ok(Self {
            name: system.name,
            idle_rss_kib: system.idle.now,
            most_rss_kib: system.process.memory()?.most,
            first_answer_milliseconds: system.start.as_secs_f64() * 1000.0,
            answer_bytes: system.answer.len(),
        })
    }
}

impl Comparison {
    /// Each round is compared with the other system's round beside it, so that what slows the machine for a while slows both.
    pub fn with(name: &'static str, all: Vec<Rounds>) -> Result<Self> {
        let other = all.iter().find(|rounds| rounds.name == name);
        let other = other.with_context(|| format!("no {name}"))?.rounds.clone();
        let systems = all.into_iter().map(|own| Measured::of(own, &other));
        Ok(Self {
            with: name,
            systems: systems.collect::<Result<_>>()?,
        })
    }

    pub fn of(&self, name: &str) -> Option<&Measured> {
        self.systems.iter().find(|system| system.name == name)
    }
}

impl Measured {
    fn of(Rounds { name, rounds }: Rounds, other: &[Round]) -> Result<Self> {
        let middle = |value: fn(&Round) -> f64| -> Result<f64> {
            let values: Vec<f64> = rounds.iter().map(value).collect();
            median(&values).context("no rounds")
        };
        let ratio = |value: fn(&Round) -> f64| -> Result<f64> {
            let pairs = rounds.iter().zip(other);
            let ratios: Vec<f64> = pairs.map(|(own, other)| value(own) / value(other)).collect();
            median(&ratios).context("no rounds")
        };
        Ok(Self {
            name,
            requests_per_second: middle(|round| round.requests_per_second)?,
            p50_milliseconds: middle(|round| f64::from(round.seen.p50_microseconds) / 1000.0)?,
            p99_milliseconds: middle(|round| f64::from(round.seen.p99_microseconds) / 1000.0)?,
            cpu_microseconds_per_call: middle(|round| round.cpu_microseconds_per_call)?,
            load_microseconds_per_call: middle(|round| round.load_microseconds_per_call)?,
            busy: middle(|round| round.busy)?,
            throughput_ratio: ratio(|round| round.requests_per_second)?,
            p99_ratio: ratio(|round| round.seen.p99_microseconds.into())?,
            cpu_ratio: ratio(|round| round.cpu_microseconds_per_call)?,
            rounds,
        })
    }
}

/// Which of these did the most, by the median of its rounds.
pub fn fastest(all: &[Rounds], among: &[&str]) -> Option<&'static str> {
    let rate = |rounds: &Rounds| {
        let rates: Vec<f64> = rounds
            .rounds
            .iter()
            .map(|round| round.requests_per_second)
            .collect();
        median(&rates).unwrap_or(0.0)
    };
    let known = all.iter().filter(|rounds| among.contains(&rounds.name));
    let best = known.max_by(|one, other| rate(one).total_cmp(&rate(other)))?;
    Some(best.name)
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::bench::weather::load::Seen;

    pub fn rounds(name: &'static str, rates: &[f64]) -> Rounds {
        let round = |&requests_per_second: &f64| Round {
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
        Rounds {
            name,
            rounds: rates.iter().map(round).collect(),
        }
    }

    #[test]
    fn rounds_are_compared_pair_by_pair() {
        // The machine was slow in the second round; the ratio is the same in all three.
        let all = vec![
            rounds("bare", &[100.0, 10.0, 100.0]),
            rounds("ours", &[80.0, 8.0, 80.0]),
        ];
        let compared = Comparison::with("bare", all).unwrap();
        let ours = compared.of("ours").unwrap();
        assert!((ours.throughput_ratio - 0.8).abs() < 1e-9);
        assert!((ours.cpu_ratio - 1.25).abs() < 1e-9);
        assert!(Comparison::with("other", vec![rounds("bare", &[1.0])]).is_err());
    }

    #[test]
    fn the_fastest_is_chosen_among_some() {
        let all = [
            rounds("ours", &[90.0]),
            rounds("a", &[2.0, 9.0, 9.0]),
            rounds("b", &[10.0, 3.0, 3.0]),
        ];
        assert_eq!(fastest(&all, &["a", "b"]), Some("a"));
        assert_eq!(fastest(&all, &["c"]), None);
    }
}
