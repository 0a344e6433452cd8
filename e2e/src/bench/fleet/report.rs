//! Last step: phases go in, figures per server and a table come out.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use super::writes::Writes;
use crate::bench::statistics::median;
use crate::bench::table::Table;

#[derive(Debug, Serialize)]
pub struct Report {
    pub phases: Vec<Phase>,
    pub memory: OperatorMemory,
    /// Of one core, in the quiet phase.
    pub idle_cpu_percent: f64,
}

#[derive(Debug, Clone, Copy, Serialize)]
#[expect(
    clippy::struct_field_names,
    reason = "in the JSON each number carries its unit"
)]
pub struct OperatorMemory {
    pub at_rest_kib: u64,
    pub with_servers_kib: u64,
    pub most_kib: u64,
}

/// One phase with its counts.
#[derive(Debug, Serialize)]
pub struct Phase {
    pub name: &'static str,
    pub servers: usize,
    /// From apply to Ready per server; in other phases, until everything was done.
    pub seconds: Vec<f64>,
    pub operator_writes: BTreeMap<String, usize>,
    pub writes: Writes,
}

impl Phase {
    pub fn of(name: &'static str, servers: usize, seconds: Vec<f64>, writes: Writes) -> Self {
        Self {
            name,
            servers,
            seconds,
            operator_writes: writes.by_operator(),
            writes,
        }
    }

    fn row(&self) -> Vec<String> {
        let by_operator: usize = self.operator_writes.values().sum();
        let all: usize = self.writes.kubernetes.values().flat_map(BTreeMap::values).sum();
        vec![
            self.name.to_owned(),
            self.servers.to_string(),
            median(&self.seconds).map_or_else(String::new, |seconds| format!("{seconds:.1}")),
            self.seconds
                .iter()
                .copied()
                .reduce(f64::max)
                .map_or_else(String::new, |seconds| format!("{seconds:.1}")),
            self.writes.arm_total().to_string(),
            self.per_server(self.writes.arm_total()),
            self.writes.arm_reads.to_string(),
            by_operator.to_string(),
            self.per_server(by_operator),
            (all - by_operator).to_string(),
        ]
    }

    #[expect(clippy::cast_precision_loss, reason = "counts of one run")]
    fn per_server(&self, count: usize) -> String {
        match self.servers {
            0 => String::new(),
            servers => format!("{:.2}", count as f64 / servers as f64),
        }
    }
}

impl Report {
    pub fn text(&self) -> String {
        let mut table = Table::with_head(&[
            "phase",
            "servers",
            "median s",
            "last s",
            "ARM writes",
            "each",
            "ARM reads",
            "operator writes",
            "each",
            "others' writes",
        ]);
        for phase in &self.phases {
            table.push(phase.row());
        }
        let mut text = table.to_string();
        for phase in &self.phases {
            // Writing to a String cannot fail.
            let _ = write!(text, "\n{}:", phase.name);
            for (what, count) in phase.operator_writes.iter().chain(&phase.writes.arm) {
                let _ = write!(text, " {count} {what};");
            }
        }
        let memory = self.memory;
        let _ = writeln!(
            text,
            "\n\noperator memory: {} at rest, {} with all servers, {} at most; idle CPU {:.2} % of a core",
            mebibytes(memory.at_rest_kib),
            mebibytes(memory.with_servers_kib),
            mebibytes(memory.most_kib),
            self.idle_cpu_percent
        );
        text
    }
}

#[expect(clippy::cast_precision_loss, reason = "memory of a process")]
fn mebibytes(kibibytes: u64) -> String {
    format!("{:.1} MiB", kibibytes as f64 / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_per_server() {
        let arm = BTreeMap::from([("PUT apis".to_owned(), 20), ("PUT backends".to_owned(), 20)]);
        let by_user = BTreeMap::from([("patch deployments".to_owned(), 30)]);
        let user = "system:serviceaccount:mcp-fleet-system:mcp-fleet-operator".to_owned();
        let writes = Writes {
            kubernetes: BTreeMap::from([(user, by_user)]),
            arm,
            arm_reads: 7,
        };
        let row = Phase::of("applied at once", 20, vec![3.0, 1.0, 2.0], writes).row();
        assert_eq!(
            row,
            [
                "applied at once",
                "20",
                "2.0",
                "3.0",
                "40",
                "2.00",
                "7",
                "30",
                "1.50",
                "0"
            ]
        );
    }
}
