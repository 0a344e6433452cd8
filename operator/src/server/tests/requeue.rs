//! When to come back.

use super::*;
use crate::condition::{Judgement, reasons, types};
use crate::runtime::backoff::Retry;
use crate::server::Report;
use crate::server::error::PassError;
use crate::server::observe::{Observed, Rollout};
use crate::server::register::Progress;
use crate::server::requeue::{Next, next};
use crate::server::verify::Verification;

fn observed(settled: bool, available: Judgement) -> Observed {
    Observed {
        wanted: 2,
        replicas: 2,
        ready_replicas: 2,
        revision: "1".into(),
        settled,
        rollout: Rollout::Done,
        address: None,
        available,
    }
}

#[test]
fn each_end_of_a_pass_has_its_time() {
    let yes = || Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "");
    let no = |reason| Judgement::no(types::AVAILABLE, reason, "");
    let (seconds, long) = (Duration::from_secs, Duration::from_hours(1));
    let cases = [
        (
            Report {
                error: Some(PassError::Timeout { seconds: 1 }),
                ..Report::default()
            },
            seconds(0),
            Next::Backoff(Retry::Fast),
        ),
        (
            Report {
                error: Some(PassError::Invalid(InvalidServer::NoDefaultGateway)),
                ..Report::default()
            },
            seconds(0),
            Next::Backoff(Retry::UntilChanged),
        ),
        (
            Report {
                observed: Some(observed(true, yes())),
                progress: Some(Progress::Pending { what: "api a".into() }),
                ..Report::default()
            },
            long,
            // The lane that follows the operation asks for the next pass.
            Next::Drift,
        ),
        (
            Report {
                observed: Some(observed(false, no("CrashLoop"))),
                ..Report::default()
            },
            seconds(3),
            Next::After(seconds(5)),
        ),
        (
            Report {
                observed: Some(observed(false, no("CrashLoop"))),
                ..Report::default()
            },
            long,
            Next::After(seconds(30)),
        ),
        (
            Report {
                observed: Some(observed(false, yes())),
                ..Report::default()
            },
            long,
            Next::After(seconds(30)),
        ),
        (
            Report {
                observed: Some(observed(false, no("ScaledToZero"))),
                ..Report::default()
            },
            long,
            Next::Drift,
        ),
        (
            Report {
                observed: Some(observed(true, yes())),
                verification: Some(Verification::Waiting("x")),
                ..Report::default()
            },
            seconds(0),
            Next::After(seconds(5)),
        ),
        (
            Report {
                observed: Some(observed(true, yes())),
                progress: Some(Progress::Unregistered),
                verification: Some(Verification::Unchanged),
                ..Report::default()
            },
            seconds(0),
            Next::Drift,
        ),
    ];
    for (report, waiting, expected) in cases {
        assert_eq!(next(&report, waiting), expected, "{report:?}");
    }
}
