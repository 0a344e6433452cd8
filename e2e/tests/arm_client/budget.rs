//! What a fleet costs in reads: one list per kind tells of all servers, and each has at most one read of its own.
//! Following the import is counted apart: its length is the service's.

use std::collections::BTreeMap;

use futures::StreamExt as _;
use mcp_fleet_operator::azure::apim::{ArmClient, Depth, Outcome, ServerRegistration, ensure_server};
use serde_json::json;

use super::fixture::{Fixture, server};

const FLEET: usize = 50;
/// As many as the operator has passes at a time.
const AT_ONCE: usize = 10;

fn fleet() -> Vec<ServerRegistration> {
    (0..FLEET).map(|number| server(&format!("s{number}"))).collect()
}

/// Requests by what they are for.
#[derive(Debug, Default, PartialEq, Eq)]
struct Cost {
    lists: usize,
    own: usize,
    polls: usize,
    writes: usize,
}

impl Cost {
    fn print(&self, what: &str) {
        #[expect(clippy::cast_precision_loss, reason = "small numbers, for people")]
        let each = |count: usize| count as f64 / FLEET as f64;
        println!(
            "{what}, {FLEET} servers: {} lists, {:.1} own reads, {:.1} polls and {:.1} writes a server",
            self.lists,
            each(self.own),
            each(self.polls),
            each(self.writes)
        );
    }
}

/// Brings all servers in line and tells what that cost, and how many each server read for itself at most.
async fn cost(fixture: &Fixture, client: &ArmClient, depth: Depth) -> (Cost, usize) {
    let control = &fixture.stand_in.control;
    let since = control.requests(u64::MAX).await.unwrap().last;
    let passes = futures::stream::iter(fleet()).map(|desired| async move {
        let outcome = ensure_server(client, &desired, depth, None).await.unwrap();
        assert!(matches!(outcome, Outcome::Done(_)), "{outcome:?}");
    });
    passes.buffer_unordered(AT_ONCE).collect::<Vec<()>>().await;
    let mut cost = Cost::default();
    let mut own: BTreeMap<String, usize> = BTreeMap::new();
    for request in control.requests(since).await.unwrap().requests {
        let below = request.path.split("/service/contoso/").nth(1).unwrap_or_default();
        let path = below.split('?').next().unwrap_or_default();
        if request.method != "GET" {
            cost.writes += 1;
        } else if path.contains("operationResults") || below.contains("asyncId") {
            cost.polls += 1;
        } else if path.contains('/') {
            cost.own += 1;
            *own.entry(path.split('/').nth(1).unwrap().to_owned()).or_default() += 1;
        } else {
            cost.lists += 1;
        }
    }
    (cost, own.into_values().max().unwrap_or_default())
}

async fn quick() -> Fixture {
    let fixture = Fixture::new().await;
    fixture
        .stand_in
        .control
        .set(json!({"asyncMillis": 300}))
        .await
        .unwrap();
    fixture
}

#[tokio::test]
async fn a_fleet_is_looked_at_with_lists() {
    let fixture = quick().await;
    let client = fixture.long_lived();
    let (created, most) = cost(&fixture, &client, Depth::Full).await;
    created.print("created");
    assert_eq!(created.writes, 4 * FLEET);
    assert_eq!((created.lists, most), (3, 1), "{created:?}");
    assert!(created.polls <= 2 * FLEET, "{created:?}");

    // A new process knows nothing.
    let client = fixture.long_lived();
    let (restarted, most) = cost(&fixture, &client, Depth::Full).await;
    restarted.print("restarted");
    assert_eq!(
        (restarted.lists, most, restarted.writes, restarted.polls),
        (3, 1, 0, 0)
    );

    for round in 0..4 {
        let (drift, most) = cost(&fixture, &fixture.long_lived(), Depth::Drift { round }).await;
        drift.print("drift");
        assert_eq!((drift.lists, most, drift.writes, drift.polls), (3, 1, 0, 0));
    }
    // Within one period nobody lists again.
    let (again, most) = cost(&fixture, &client, Depth::Drift { round: 0 }).await;
    assert_eq!((again.lists, most, again.writes), (0, 1, 0));
}
