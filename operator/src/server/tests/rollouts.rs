//! What a pipeline reads while a server changes: after each pass of a story, `Ready` at its generation and the verdict
//! of kstatus. Whoever waits must not be told of the former version, and not wait for what will not come.

use jiff::Timestamp;
use mcp_fleet_crds::McpServerStatus;

use super::*;
use crate::azure::apim::{ArmError, ErrorClass, RegistrationError};
use crate::condition::kstatus::{Verdict, verdict};
use crate::condition::{Judgement, Outlook, find, reasons, types};
use crate::kube_write::WriteError;
use crate::mcp;
use crate::server::deregister::Deletion;
use crate::server::error::{LoadError, PassError, RegisterError, VerifyError};
use crate::server::observe::{Failure, Observed, Rollout};
use crate::server::register::Progress;
use crate::server::status::{deleting, status};
use crate::server::verify::{Through, Verification};
use crate::server::{Knowledge, Report};

/// A server, told of in one pass after the other.
struct Story {
    generation: i64,
    second: i64,
    status: McpServerStatus,
}

impl Story {
    fn new() -> Self {
        Self {
            generation: 1,
            second: 0,
            status: McpServerStatus::default(),
        }
    }

    /// Ready at generation 1.
    fn ready() -> Self {
        let mut story = Self::new();
        story.pass(started());
        assert_eq!(story.pass(good()), ("True", reasons::READY, Verdict::Current));
        story
    }

    fn apply(&mut self) {
        self.generation += 1;
        assert_eq!(self.verdict(), Verdict::InProgress, "nobody has seen it yet");
    }

    /// What is told after a pass: `Ready` at the present generation, or nothing.
    fn pass(&mut self, report: Report) -> (&str, &str, Verdict) {
        self.second += 100;
        let now = Timestamp::from_second(1_800_000_000 + self.second).unwrap();
        self.status = status(&self.status, self.generation, &report, now);
        self.told()
    }

    /// Generation 2 is applied, and seen in one pass.
    fn update(report: Report) -> Self {
        let mut story = Self::ready();
        story.apply();
        story.pass(report);
        story
    }

    fn told(&self) -> (&str, &str, Verdict) {
        let ready = find(&self.status.conditions, types::READY).unwrap();
        let beside = [types::RECONCILING, types::STALLED]
            .into_iter()
            .filter_map(|type_| find(&self.status.conditions, type_))
            .inspect(|condition| assert_eq!(condition.status, "True", "only there while it is True"))
            .count();
        let expected = usize::from(ready.status != "True" && ready.reason != "ScaledToZero");
        assert_eq!(beside, expected, "{:?}", self.status.conditions);
        let current = ready.observed_generation == Some(self.generation);
        let said = if current { ready.status.as_str() } else { "" };
        (said, ready.reason.as_str(), self.verdict())
    }

    fn verdict(&self) -> Verdict {
        verdict(&self.object())
    }

    fn object(&self) -> Value {
        json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer",
            "metadata": {"name": "weather", "namespace": "tools", "generation": self.generation},
            "status": self.status})
    }

    fn condition(&self, type_: &str) -> (&str, &str, Option<i64>) {
        let found = find(&self.status.conditions, type_).unwrap();
        (&found.status, &found.reason, found.observed_generation)
    }
}

fn observed(rollout: Rollout, available: Judgement) -> Observed {
    Observed {
        wanted: 2,
        replicas: 2,
        ready_replicas: 2,
        revision: "1".into(),
        settled: rollout == Rollout::Done,
        rollout,
        address: Some("203.0.113.7".into()),
        available,
    }
}

fn serves() -> Judgement {
    Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "all pods are ready")
}

fn waits(rollout: Rollout, available: Judgement) -> Report {
    Report {
        valid: Some(valid("gateway: {enabled: false}")),
        observed: Some(observed(rollout, available)),
        progress: Some(Progress::Unregistered),
        verification: Some(Verification::Waiting(
            "pods of the newest version must serve first",
        )),
        registration: Knowledge::Same,
        ..Report::default()
    }
}

/// No pod serves yet.
fn started() -> Report {
    let starting = Judgement::unknown(types::AVAILABLE, reasons::PENDING, "pods are starting");
    waits(Rollout::Progressing, starting)
}

/// The former version serves, and the newest comes.
fn replaced() -> Report {
    waits(Rollout::Progressing, serves())
}

/// The newest version serves alone, and was looked at.
fn good() -> Report {
    Report {
        verification: Some(Verification::Seen {
            report: Some(mcp::Report::default()),
            through: Through::Server,
        }),
        ..waits(Rollout::Done, serves())
    }
}

/// The former version serves, and the newest does not come.
fn broken() -> Report {
    let failure = Failure::lasting("ImagePullFailed", "cannot pull image x: check the tag".into());
    waits(Rollout::Failed(failure), serves())
}

fn at_zero() -> Report {
    let zero = Judgement::no(types::AVAILABLE, "ScaledToZero", "replicas is 0").that(Outlook::Intended);
    waits(Rollout::Done, zero)
}

fn failed(error: PassError) -> Report {
    Report {
        error: Some(error),
        registration: Knowledge::Same,
        ..Report::default()
    }
}

fn load_error() -> PassError {
    PassError::Load(LoadError::Pods {
        server: "tools/weather".into(),
        source: WriteError::Timeout {
            verb: "list",
            kind: "Pod".into(),
            name: "weather".into(),
        },
    })
}

fn arm_timeout() -> RegisterError {
    let source = RegistrationError::Arm(ArmError {
        action: "get",
        resource: "api a".into(),
        class: ErrorClass::Timeout,
        correlation_id: None,
    });
    RegisterError::Registration { source }
}

#[test]
fn a_new_server_is_in_progress_until_it_is_verified() {
    let mut story = Story::new();
    assert_eq!(
        story.pass(started()),
        ("Unknown", reasons::PROGRESSING, Verdict::InProgress)
    );
    assert_eq!(
        story.pass(replaced()),
        ("Unknown", reasons::PROGRESSING, Verdict::InProgress)
    );
    assert_eq!(story.pass(good()), ("True", reasons::READY, Verdict::Current));
}

#[test]
fn a_new_image_is_ready_only_when_it_serves_alone_and_was_verified() {
    let mut story = Story::ready();
    story.apply();
    // The pass that applies it sees only the former version.
    assert_eq!(
        story.pass(replaced()),
        ("Unknown", reasons::PROGRESSING, Verdict::InProgress)
    );
    assert_eq!(
        story.condition(types::AVAILABLE),
        ("True", reasons::AVAILABLE, Some(2))
    );
    assert_eq!(
        story.condition(types::VERIFIED),
        ("True", reasons::VERIFIED, Some(1)),
        "what was verified is the former version"
    );
    // It has taken over, and nobody has spoken to it.
    let unverified = waits(Rollout::Done, serves());
    assert_eq!(
        story.pass(unverified),
        ("Unknown", reasons::PROGRESSING, Verdict::InProgress)
    );
    assert_eq!(story.pass(good()), ("True", reasons::READY, Verdict::Current));
    assert_eq!(
        story.condition(types::VERIFIED),
        ("True", reasons::VERIFIED, Some(2))
    );
}

#[test]
fn a_broken_image_is_never_ready_while_the_former_version_serves() {
    let mut story = Story::ready();
    story.apply();
    assert_eq!(story.pass(replaced()).0, "Unknown");
    for _ in 0..3 {
        assert_eq!(
            story.pass(broken()),
            ("False", "ImagePullFailed", Verdict::Failed)
        );
        assert_eq!(story.condition(types::AVAILABLE).0, "True", "agents are served");
        let ready = find(&story.status.conditions, types::READY).unwrap();
        assert!(ready.message.contains("check the tag"), "{}", ready.message);
    }
    // Trouble of ours in between says nothing new.
    let before = story.status.clone();
    for trouble in [load_error(), PassError::Timeout { seconds: 20 }] {
        story.pass(failed(trouble));
        assert_eq!(story.status, before);
    }
    story.apply();
    assert_eq!(
        story.pass(replaced()),
        ("Unknown", reasons::PROGRESSING, Verdict::InProgress)
    );
    assert_eq!(story.pass(good()), ("True", reasons::READY, Verdict::Current));
}

/// The first pass over a new spec sees nothing, and the second does not reach the gateway.
#[test]
fn a_pass_that_judged_nothing_makes_nothing_true_of_a_new_spec() {
    for trouble in [load_error, || PassError::Timeout { seconds: 20 }] {
        let mut story = Story::ready();
        story.apply();
        let told = story.pass(failed(trouble()));
        assert_eq!((told.0, told.2), ("Unknown", Verdict::InProgress));
        assert_eq!(story.status.observed_generation, Some(1), "nothing was applied");
        for type_ in [
            types::ACCEPTED,
            types::AVAILABLE,
            types::REGISTERED,
            types::VERIFIED,
        ] {
            let (status, _, of) = story.condition(type_);
            assert_eq!((status, of), ("True", Some(1)), "{type_}");
        }
        let later = Report {
            verification: None,
            progress: Some(Progress::Failed(Arc::new(arm_timeout()))),
            registration: Knowledge::Inherited,
            ..replaced()
        };
        let told = story.pass(later);
        assert_eq!((told.0, told.2), ("Unknown", Verdict::InProgress));
        assert_eq!(story.condition(types::REGISTERED).2, Some(1));
        assert_eq!(story.pass(good()), ("True", reasons::READY, Verdict::Current));
    }
}

#[test]
fn the_same_trouble_with_the_same_spec_is_no_news() {
    for trouble in [load_error(), PassError::Timeout { seconds: 20 }] {
        let mut story = Story::ready();
        let before = story.status.clone();
        assert_eq!(
            story.pass(failed(trouble)),
            ("True", reasons::READY, Verdict::Current)
        );
        assert_eq!(story.status, before);
    }
}

#[test]
fn a_spec_that_is_refused_is_failed_at_once() {
    let mut story = Story::ready();
    story.apply();
    let refused = failed(PassError::Invalid(InvalidServer::NoDefaultGateway));
    let told = story.pass(refused);
    assert_eq!(told, ("False", reasons::GATEWAY_NOT_FOUND, Verdict::Failed));
    assert_eq!(story.condition(types::VERIFIED).2, Some(1));
}

#[test]
fn a_child_that_cannot_be_written_fails_the_spec_and_not_who_serves() {
    let mut story = Story::ready();
    story.apply();
    let not_ours = PassError::Apply(WriteError::NotOwned {
        kind: "Service".into(),
        namespace: "tools".into(),
        name: "weather".into(),
    });
    let told = story.pass(failed(not_ours));
    assert_eq!(told, ("False", reasons::CHILD_NOT_OWNED, Verdict::Failed));
    assert_eq!(
        story.condition(types::AVAILABLE),
        ("True", reasons::AVAILABLE, Some(1))
    );
    let no_answer = PassError::Apply(WriteError::Timeout {
        verb: "apply",
        kind: "Deployment".into(),
        name: "weather".into(),
    });
    let told = story.pass(failed(no_answer));
    assert_eq!(told, ("False", reasons::TIMEOUT, Verdict::InProgress));
}

#[test]
fn a_server_that_is_not_mcp_fails_and_one_that_is_late_does_not_yet() {
    let call = || mcp::Call {
        verb: "POST",
        address: "http://x/mcp".into(),
        step: "server/discover",
    };
    let probe = |source| {
        let error = VerifyError::Probe {
            way: "directly",
            source,
        };
        Report {
            verification: Some(Verification::Failed(Arc::new(error))),
            ..good()
        }
    };
    let mut story = Story::new();
    story.pass(started());
    let late = probe(mcp::ProbeError::Unreachable {
        call: call(),
        cause: "refused".into(),
    });
    assert_eq!(
        story.pass(late),
        ("Unknown", reasons::PROGRESSING, Verdict::InProgress)
    );
    let html = probe(mcp::ProbeError::NotMcp {
        call: call(),
        found: "text/html".into(),
    });
    assert_eq!(story.pass(html), ("False", "NotMcp", Verdict::Failed));
}

/// Zero is what was asked for: nothing is under way, nothing is wrong, and nobody is served.
#[test]
fn a_server_scaled_to_zero_says_so() {
    let mut story = Story::ready();
    story.apply();
    let told = story.pass(at_zero());
    assert_eq!(told, ("False", "ScaledToZero", Verdict::InProgress));
    story.apply();
    story.pass(started());
    assert_eq!(story.pass(good()), ("True", reasons::READY, Verdict::Current));
}

#[test]
fn a_deletion_is_under_way_until_it_waits_for_a_person() {
    let mut story = Story::ready();
    let now = Timestamp::from_second(1_800_001_000).unwrap();
    let pending = Deletion::Pending { what: "api a".into() };
    story.status = deleting(&story.status, 1, Ok(&pending), now);
    assert_eq!(story.told().1, reasons::DELETING);
    assert!(find(&story.status.conditions, types::RECONCILING).is_some());
    let gone = RegisterError::GatewayGone {
        gateway: "contoso".into(),
        api: "/apis/a".into(),
    };
    story.status = deleting(&story.status, 1, Err(&gone), now);
    assert!(find(&story.status.conditions, types::STALLED).is_some());
    let going = json!({"metadata": {"generation": 1, "deletionTimestamp": "2026-11-21T11:00:00Z"}, "status": story.status});
    assert_eq!(verdict(&going), Verdict::Terminating);
}

/// The states above as a pipeline meets them. The tools that wait are asked about the same file (e2e/tests/waiting.rs).
#[test]
fn states_that_tools_meet() {
    let mut started_anew = Story::new();
    started_anew.pass(started());
    let mut unseen = Story::ready();
    unseen.generation += 1;
    let nobody = Story {
        status: McpServerStatus {
            observed_generation: Some(-1),
            ..McpServerStatus::default()
        },
        ..Story::new()
    };
    let invalid = || failed(PassError::Invalid(InvalidServer::NoDefaultGateway));
    let states = [
        ("new, and seen by nobody", nobody),
        ("new, its pods start", started_anew),
        ("ready", Story::ready()),
        ("changed, and seen by nobody", unseen),
        ("changed, the former version serves", Story::update(replaced())),
        (
            "changed, serves and is not verified",
            Story::update(waits(Rollout::Done, serves())),
        ),
        ("changed and ready", Story::update(good())),
        (
            "changed, and the pass saw nothing",
            Story::update(failed(load_error())),
        ),
        ("changed, with a broken image", Story::update(broken())),
        ("changed, and refused", Story::update(invalid())),
        ("changed to no replicas", Story::update(at_zero())),
    ];
    let shown: Vec<Value> = states
        .into_iter()
        .map(|(name, story)| {
            let verdict = format!("{:?}", story.verdict());
            json!({"name": name, "kstatus": verdict, "object": story.object()})
        })
        .collect();
    insta::assert_yaml_snapshot!("states", shown);
}
