//! Events, on transitions only. In: the conditions before and after a pass. Out: Events in the cluster.
//!
//! One [`Events`] per controller: the recorder inside keeps a cache that turns repetitions into a series.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt as _};

use crate::condition::{self, types};
use crate::kube_write::is_terminating;

/// An Event's note may have 1 kB; a character may take several bytes.
const NOTE_BYTES: usize = 1000;

/// An Event is not worth more of a pass's time.
const LIMIT: Duration = Duration::from_secs(5);

/// Something that happened and that no condition keeps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    reason: &'static str,
    text: String,
    is_warning: bool,
}

impl Note {
    pub fn normal(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            reason,
            text: text.into(),
            is_warning: false,
        }
    }

    pub fn warning(reason: &'static str, text: impl Into<String>) -> Self {
        Self {
            is_warning: true,
            ..Self::normal(reason, text)
        }
    }
}

/// Publishes Events of one controller.
#[derive(Clone)]
pub struct Events {
    recorder: Recorder,
}

impl std::fmt::Debug for Events {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Events")
    }
}

impl Events {
    pub fn new(client: Client, instance: Option<String>) -> Self {
        let reporter = Reporter {
            controller: crate::constants::labels::OPERATOR.to_owned(),
            instance,
        };
        Self {
            recorder: Recorder::new(client, reporter),
        }
    }

    /// One Event for each part that became False, and for each that was False and is True again. That everything is
    /// as it should be from the start is no news worth a write. A failure to tell is not a failure of the pass.
    pub async fn publish_transitions<K>(&self, object: &K, previous: &[Condition], next: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        for condition in news(previous, next) {
            self.publish(object, &condition.type_, condition).await;
        }
    }

    /// One Event for something that happened.
    pub async fn tell<K>(&self, object: &K, note: &Note)
    where
        K: Resource<DynamicType = ()>,
    {
        let reason = note.reason.to_owned();
        self.send(object, note.is_warning, note.reason, reason, &note.text)
            .await;
    }

    async fn publish<K>(&self, object: &K, action: &str, condition: &Condition)
    where
        K: Resource<DynamicType = ()>,
    {
        let is_warning = condition.status == "False";
        let reason = condition.reason.clone();
        self.send(object, is_warning, action, reason, &condition.message)
            .await;
    }

    async fn send<K>(&self, object: &K, is_warning: bool, action: &str, reason: String, text: &str)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if is_warning {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason,
            note: Some(cut(text)),
            action: action.to_owned(),
            secondary: None,
        };
        let (reference, name) = (object.object_ref(&()), object.name_any());
        let publishing = self.recorder.publish(&event, &reference);
        match tokio::time::timeout(LIMIT, publishing).await {
            Ok(Ok(())) => {}
            // Nobody reads Events of a namespace that goes away.
            Ok(Err(error)) if is_terminating(&error) => {}
            Ok(Err(error)) => tracing::warn!(object = name, %error, "failed to publish an Event"),
            Err(_) => tracing::warn!(object = name, "no answer while an Event was published"),
        }
    }
}

fn news<'a>(previous: &[Condition], next: &'a [Condition]) -> Vec<&'a Condition> {
    let failed_before =
        |type_: &str| condition::find(previous, type_).is_some_and(|old| old.status == "False");
    // Mostly Ready repeats what one of its parts says; a new version that fails while the former serves has no part.
    let repeated = |ready: &Condition| {
        ready.status != "False"
            || next.iter().any(|part| {
                part.type_ != ready.type_ && part.status == "False" && part.reason == ready.reason
            })
    };
    let transitions = condition::transitions(previous, next).into_iter();
    transitions
        .filter(|condition| match condition.type_.as_str() {
            types::READY => !repeated(condition),
            types::RECONCILING | types::STALLED => false,
            _ => true,
        })
        .filter(|condition| match condition.status.as_str() {
            "False" => true,
            "True" => failed_before(&condition.type_),
            _ => false,
        })
        .collect()
}

fn cut(message: &str) -> String {
    let mut end = message.len().min(NOTE_BYTES);
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    message[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::condition::{Judgement, Status, conclude, merge, reasons, summarize};

    #[test]
    fn failures_and_recoveries_are_news() {
        use Status::{False, True, Unknown};
        let told = |before: Option<Status>, after: Status| {
            let conditions = |status| {
                let part = Judgement::new(types::AVAILABLE, status, reasons::PENDING, "");
                let ready = summarize(std::slice::from_ref(&part), 1);
                merge(&[], &conclude(vec![part], ready), 1, Timestamp::UNIX_EPOCH)
            };
            let (before, after) = (before.map(conditions).unwrap_or_default(), conditions(after));
            news(&before, &after).len()
        };
        let table = [
            (None, True, 0),
            (None, Unknown, 0),
            (None, False, 1),
            (Some(Unknown), True, 0),
            (Some(True), False, 1),
            (Some(False), False, 0),
            (Some(False), True, 1),
            (Some(False), Unknown, 0),
        ];
        for (before, after, count) in table {
            assert_eq!(told(before, after), count, "{before:?} {after:?}");
        }
    }

    #[test]
    fn a_version_that_fails_beside_one_that_serves_is_news() {
        let told = |ready: Judgement| {
            let available = Judgement::yes(types::AVAILABLE, reasons::AVAILABLE, "");
            merge(&[], &conclude(vec![available], ready), 1, Timestamp::UNIX_EPOCH)
        };
        let good = told(Judgement::yes(types::READY, reasons::READY, ""));
        let failed = told(Judgement::no(types::READY, "ImagePullFailed", "no such image"));
        let news = news(&good, &failed);
        assert_eq!(
            news.iter().map(|one| one.reason.as_str()).collect::<Vec<_>>(),
            ["ImagePullFailed"]
        );
    }

    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        assert_eq!(cut(&"é".repeat(800)).len(), 1000);
        assert_eq!(cut(&format!("a{}", "é".repeat(800))).len(), 999);
    }
}
