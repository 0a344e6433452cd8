//! What the stand-in was asked, in order, for tests that count.
//! In: one entry per request. Out: the entries since a sequence number, and counters. Never a key or a token.

use serde::{Deserialize, Serialize};

/// One request to the ARM plane.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ArmEntry {
    pub sequence: u64,
    /// RFC 3339.
    pub at: String,
    pub method: String,
    pub path: String,
    /// Absent when the connection was cut instead.
    pub status: Option<u16>,
}

/// One request that reached the gateway.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct GatewayEntry {
    pub sequence: u64,
    pub at: String,
    pub method: String,
    pub path: String,
    pub status: Option<u16>,
    /// Id of the API that it was routed to.
    pub api: Option<String>,
    pub operation: Option<String>,
    /// Whether the caller sent a key, in the header or the query.
    pub key_received: bool,
    /// URL without query, absent when nothing was forwarded.
    pub forwarded_to: Option<String>,
    /// Names of the headers that were forwarded.
    pub forwarded_headers: Vec<String>,
    /// Whether a key was in what was forwarded, header or query.
    pub key_forwarded: bool,
}

/// Requests to the ARM plane so far. A write is a PUT, PATCH, POST or DELETE.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counters {
    pub reads: u64,
    pub writes: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Journal {
    next: u64,
    arm: Vec<ArmEntry>,
    gateway: Vec<GatewayEntry>,
    counters: Counters,
}

fn now() -> String {
    jiff::Timestamp::now().to_string()
}

impl Journal {
    pub(crate) fn arm(&mut self, method: &str, path: &str, status: Option<u16>) {
        self.next += 1;
        match method {
            "GET" | "HEAD" => self.counters.reads += 1,
            _ => self.counters.writes += 1,
        }
        self.arm.push(ArmEntry {
            sequence: self.next,
            at: now(),
            method: method.into(),
            path: path.into(),
            status,
        });
    }

    pub(crate) fn gateway(&mut self, mut entry: GatewayEntry) {
        self.next += 1;
        entry.sequence = self.next;
        entry.at = now();
        self.gateway.push(entry);
    }

    pub(crate) fn arm_since(&self, since: u64) -> Vec<ArmEntry> {
        self.arm
            .iter()
            .filter(|entry| entry.sequence > since)
            .cloned()
            .collect()
    }

    pub(crate) fn gateway_since(&self, since: u64) -> Vec<GatewayEntry> {
        self.gateway
            .iter()
            .filter(|entry| entry.sequence > since)
            .cloned()
            .collect()
    }

    pub(crate) fn last(&self) -> u64 {
        self.next
    }

    pub(crate) fn counters(&self) -> Counters {
        self.counters
    }
}
