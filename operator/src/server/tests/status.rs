//! What is told after each kind of pass.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use mcp_fleet_crds::{McpServerStatus, Tool};

use super::*;
use crate::azure::apim::{ArmError, ErrorClass, RegistrationError};
use crate::condition::{Judgement, find, reasons, types};
use crate::mcp;
use crate::server::deregister::Deletion;
use crate::server::error::{PassError, RegisterError, VerifyError};
use crate::server::observe::{Observed, Rollout};
use crate::server::register::Progress;
use crate::server::status::{News, deleting, news, status};
use crate::server::verify::{Through, Verification};
use crate::server::{Knowledge, Report};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn observed() -> Observed {
    Observed {
        wanted: 2,
        replicas: 2,
        ready_replicas: 2,
        revision: "1".into(),
        settled: true,
        rollout: Rollout::Done,
        address: Some("203.0.113.7".into()),
        available: Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "all pods are ready"),
    }
}

/// A server without a gateway whose tools were seen.
fn seen() -> Report {
    let tools = vec![Tool {
        name: "get_alerts".into(),
        digest: "sha256:1".into(),
    }];
    let report = mcp::Report {
        versions: vec!["2026-07-28".into()],
        tools,
        tool_count: 1,
        ..mcp::Report::default()
    };
    Report {
        valid: Some(valid(
            "gateway: {enabled: false}\nservice: {sources: [198.51.100.0/24]}",
        )),
        observed: Some(observed()),
        progress: Some(Progress::Unregistered),
        verification: Some(Verification::Seen {
            report: Some(report),
            through: Through::Server,
        }),
        registration: Knowledge::Same,
        ..Report::default()
    }
}

/// A server that its gateway refuses.
fn refused(refusal: InvalidServer) -> Valid {
    Valid {
        registration: Err(refusal),
        ..valid("")
    }
}

fn arm(class: ErrorClass) -> RegisterError {
    let source = RegistrationError::Arm(ArmError {
        action: "put",
        resource: "api a".into(),
        class,
        correlation_id: Some("differs".into()),
    });
    RegisterError::Registration { source }
}

fn failed_with(class: ErrorClass) -> Progress {
    Progress::Failed(Arc::new(arm(class)))
}

fn told<'a>(status: &'a McpServerStatus, type_: &str) -> (&'a str, &'a str) {
    let condition: &Condition = find(&status.conditions, type_).unwrap();
    (&condition.status, &condition.reason)
}

#[test]
fn a_good_pass_tells_everything_and_a_second_one_nothing_new() {
    let first = status(&McpServerStatus::default(), 3, &seen(), at(0));
    assert_eq!(told(&first, types::READY), ("True", reasons::READY));
    assert_eq!(first.observed_generation, Some(3));
    assert_eq!(first.tool_count, Some(1));
    assert_eq!(first.selector.as_deref(), Some("mcpfleet.dev/server=weather"));
    let endpoints = first.endpoints.clone().unwrap();
    assert_eq!(endpoints.cluster.as_deref(), Some("http://weather.tools.svc/mcp"));
    assert_eq!(endpoints.load_balancer.as_deref(), Some("http://203.0.113.7/mcp"));
    assert_eq!(
        first
            .conditions
            .iter()
            .map(|condition| condition.type_.as_str())
            .collect::<Vec<_>>(),
        [
            types::ACCEPTED,
            types::AVAILABLE,
            types::REGISTERED,
            types::VERIFIED,
            types::READY
        ]
    );
    let second = Report {
        verification: Some(Verification::Unchanged),
        ..seen()
    };
    let second = status(&first, 3, &second, at(500));
    assert_eq!(news(&first, &second, true), News::Nothing);
    assert_eq!(first, second, "not even a time moves");
    assert_eq!(first.pods.as_deref(), Some("2/2"));
}

/// What is left in the gateway is still there, whatever this server wants now.
#[test]
fn an_orphaned_registration_is_not_said_to_be_gone() {
    let message = |policy| {
        let mut off = valid("gateway: {enabled: false}");
        off.registration = Ok(crate::server::validate::Plan::Unregistered { policy });
        let report = Report {
            valid: Some(off),
            ..seen()
        };
        let told = status(&McpServerStatus::default(), 3, &report, at(0));
        find(&told.conditions, types::REGISTERED).unwrap().message.clone()
    };
    let left = message(mcp_fleet_crds::ManagementPolicy::Orphan);
    assert!(
        left.contains("stays in the gateway") && left.contains("forwards"),
        "{left}"
    );
    assert!(!message(mcp_fleet_crds::ManagementPolicy::Manage).contains("stays"));
}

#[test]
fn numbers_alone_are_no_news_while_pods_come_and_go() {
    let first = status(&McpServerStatus::default(), 3, &seen(), at(0));
    let fewer = Report {
        observed: Some(Observed {
            ready_replicas: 1,
            settled: false,
            ..observed()
        }),
        ..seen()
    };
    let second = status(&first, 3, &fewer, at(1));
    assert_eq!(news(&first, &second, false), News::Passing);
    assert_eq!(news(&first, &second, true), News::Lasting);
}

#[test]
fn an_address_is_no_news_while_the_workload_starts() {
    let starting = |address: Option<&str>| Report {
        valid: Some(valid("")),
        observed: Some(Observed {
            address: address.map(ToOwned::to_owned),
            settled: false,
            available: Judgement::unknown(types::AVAILABLE, reasons::PENDING, "pods are starting"),
            ..observed()
        }),
        progress: Some(Progress::Waiting("x")),
        verification: Some(Verification::Waiting("y")),
        ..Report::default()
    };
    let first = status(&McpServerStatus::default(), 3, &starting(None), at(0));
    let second = status(&first, 3, &starting(Some("203.0.113.7")), at(1));
    assert_eq!(news(&first, &second, false), News::Passing);
    let ready = status(&first, 3, &seen(), at(2));
    assert_eq!(news(&first, &ready, true), News::Lasting);
    let moved = Report {
        observed: Some(Observed {
            address: Some("203.0.113.8".into()),
            ..observed()
        }),
        ..seen()
    };
    let moved = status(&ready, 3, &moved, at(3));
    assert_eq!(news(&ready, &moved, true), News::Lasting);
}

#[test]
fn an_invalid_spec_keeps_what_runs() {
    let first = status(&McpServerStatus::default(), 3, &seen(), at(0));
    let error = InvalidServer::NamespaceNotAllowed {
        gateway: "contoso".into(),
        namespace: "tools".into(),
    };
    // A withdrawn leave takes the registration along; what else is refused leaves it.
    let withdrawn = Report {
        valid: Some(refused(error.clone())),
        progress: Some(Progress::Withdrawn(error.clone())),
        ..Report::default()
    };
    let second = status(&first, 4, &withdrawn, at(1));
    assert_eq!(
        told(&second, types::REGISTERED),
        ("False", reasons::GATEWAY_NOT_ALLOWED)
    );
    assert_eq!(second.gateway, None);
    let report = Report {
        error: Some(PassError::Invalid(error)),
        ..Report::default()
    };
    let second = status(&first, 4, &report, at(1));
    assert_eq!(
        told(&second, types::ACCEPTED),
        ("False", reasons::GATEWAY_NOT_ALLOWED)
    );
    assert_eq!(told(&second, types::AVAILABLE), ("True", reasons::AVAILABLE));
    assert_eq!(
        told(&second, types::READY),
        ("False", reasons::GATEWAY_NOT_ALLOWED)
    );
    assert_eq!((second.tools.len(), second.observed_generation), (1, Some(4)));
    let fresh = status(&McpServerStatus::default(), 1, &report, at(1));
    assert_eq!(told(&fresh, types::REGISTERED), ("Unknown", reasons::PENDING));
}

#[test]
fn a_gateway_that_was_not_looked_at_yet_is_awaited_without_alarm() {
    let error = InvalidServer::GatewayNotReady {
        gateway: "c".into(),
        message: "it was not looked at yet".into(),
        judged: false,
    };
    let report = Report {
        valid: Some(refused(error.clone())),
        progress: Some(Progress::Refused(error)),
        ..Report::default()
    };
    let first = status(&McpServerStatus::default(), 1, &report, at(0));
    assert_eq!(
        told(&first, types::ACCEPTED),
        ("Unknown", reasons::GATEWAY_NOT_READY)
    );
    assert_eq!(
        told(&first, types::REGISTERED),
        ("Unknown", reasons::GATEWAY_NOT_READY)
    );
}

/// Throttling, an expired credential, a lost role: none of them says anything about what is registered.
#[test]
fn no_answer_is_no_news_of_the_registration() {
    let good = status(&McpServerStatus::default(), 3, &seen(), at(0));
    let failed = |class, registration| Report {
        valid: Some(valid("")),
        observed: Some(observed()),
        progress: Some(failed_with(class)),
        registration,
        ..Report::default()
    };
    let message = || "differs".to_owned();
    let classes = || {
        [
            ErrorClass::Timeout,
            ErrorClass::Throttled { retry_after: None },
            ErrorClass::Connection { message: message() },
            ErrorClass::Server {
                status: 503,
                message: message(),
            },
            ErrorClass::Auth { message: message() },
            ErrorClass::Forbidden { message: message() },
        ]
    };
    for class in classes() {
        let text = format!("{class:?}");
        for knowledge in [Knowledge::Same, Knowledge::Inherited] {
            let kept = status(&good, 3, &failed(class.clone(), knowledge), at(1));
            assert_eq!(news(&good, &kept, true), News::Nothing, "{text} {knowledge:?}");
        }
        // The new spec asks for the same registration.
        let same = status(&good, 4, &failed(class.clone(), Knowledge::Same), at(1));
        let registered = find(&same.conditions, types::REGISTERED).unwrap();
        assert_eq!(
            (registered.status.as_str(), registered.observed_generation),
            ("True", Some(4)),
            "{text}"
        );
        // Whether it does is not known: what was true is still told of the old one.
        let unknown = status(&good, 4, &failed(class.clone(), Knowledge::Inherited), at(1));
        let registered = find(&unknown.conditions, types::REGISTERED).unwrap();
        assert_eq!(
            (registered.status.as_str(), registered.observed_generation),
            ("True", Some(3)),
            "{text}"
        );
        assert_eq!(
            told(&unknown, types::READY),
            ("Unknown", reasons::PROGRESSING),
            "{text}"
        );
        // Something else is to be registered than was.
        let changing = status(&good, 4, &failed(class, Knowledge::Changing), at(1));
        assert_eq!(told(&changing, types::REGISTERED).0, "Unknown", "{text}");
        assert_eq!(
            told(&changing, types::READY),
            ("Unknown", reasons::PROGRESSING),
            "{text}"
        );
    }
    // Who was never registered is told why not.
    let refused = failed(ErrorClass::Forbidden { message: message() }, Knowledge::Changing);
    let refused = status(&McpServerStatus::default(), 3, &refused, at(1));
    assert_eq!(told(&refused, types::REGISTERED), ("False", "Forbidden"));
    let message = &find(&refused.conditions, types::REGISTERED).unwrap().message;
    assert!(
        !message.contains("correlation"),
        "a correlation id would make every failure a write: {message}"
    );
}

#[test]
fn a_probe_that_fails_is_doubted_for_a_minute_unless_time_cannot_help() {
    let call = || mcp::Call {
        verb: "POST",
        address: "http://x/mcp".into(),
        step: "server/discover",
    };
    let failed = |source| Report {
        valid: Some(valid("")),
        observed: Some(observed()),
        progress: Some(Progress::Unregistered),
        verification: Some(Verification::Failed(Arc::new(VerifyError::Probe {
            way: "through the gateway",
            source,
        }))),
        ..Report::default()
    };
    let unreachable = || mcp::ProbeError::Unreachable {
        call: call(),
        cause: "refused".into(),
    };
    let before = McpServerStatus {
        conditions: crate::condition::merge(
            &[],
            &[Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "")],
            3,
            at(0),
        ),
        ..McpServerStatus::default()
    };
    let early = status(&before, 3, &failed(unreachable()), at(30));
    assert_eq!(told(&early, types::VERIFIED), ("Unknown", "Unreachable"));
    let late = status(&before, 3, &failed(unreachable()), at(90));
    assert_eq!(told(&late, types::VERIFIED), ("False", "Unreachable"));
    let not_mcp = mcp::ProbeError::NotMcp {
        call: call(),
        found: "text/html".into(),
    };
    let at_once = status(&before, 3, &failed(not_mcp), at(1));
    assert_eq!(told(&at_once, types::VERIFIED), ("False", "NotMcp"));
}

#[test]
fn deletion_tells_what_it_waits_for() {
    let good = status(&McpServerStatus::default(), 3, &seen(), at(0));
    let pending = deleting(&good, 3, Ok(&Deletion::Pending { what: "api a".into() }), at(1));
    assert_eq!(told(&pending, types::READY), ("False", reasons::DELETING));
    assert!(
        find(&pending.conditions, types::REGISTERED)
            .unwrap()
            .message
            .contains("api a")
    );
    let error = arm(ErrorClass::Connection {
        message: "refused".into(),
    });
    let down = deleting(&good, 3, Err(&error), at(1));
    assert_eq!(
        told(&down, types::REGISTERED),
        ("False", reasons::GATEWAY_UNREACHABLE)
    );
    assert_eq!(told(&down, types::AVAILABLE), ("True", reasons::AVAILABLE));
    assert_eq!(down.tool_count, Some(1));
    let gone = RegisterError::GatewayGone {
        gateway: "contoso".into(),
        api: "/apis/a".into(),
    };
    let gone = deleting(&good, 3, Err(&gone), at(1));
    assert!(
        find(&gone.conditions, types::REGISTERED)
            .unwrap()
            .message
            .contains("managementPolicy: Orphan")
    );
}
