//! Events, on transitions only. In: the conditions before and after a pass. Out: Events in the cluster.
//!
//! One [`Events`] per controller: the recorder inside keeps a cache that turns repetitions into a series.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::runtime::events::{Event, EventType, Recorder, Reporter};
use kube::{Client, Resource, ResourceExt as _};

use crate::condition;

/// An Event's note may have 1 kB; a character may take several bytes.
const NOTE_BYTES: usize = 1000;

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

    /// One Event for each condition whose status or reason changed. A failure to tell is not a failure of the pass.
    /// Something that was never seen and is merely awaited is no news.
    pub async fn publish_transitions<K>(&self, object: &K, previous: &[Condition], next: &[Condition])
    where
        K: Resource<DynamicType = ()>,
    {
        for condition in condition::transitions(previous, next) {
            let told = condition.type_ == condition::types::READY && condition.status != "True";
            let awaited = condition.status == "Unknown";
            // Ready repeats the reason of a part while it is not True.
            if told || awaited {
                continue;
            }
            self.publish(object, &condition.type_, condition).await;
        }
    }

    async fn publish<K>(&self, object: &K, action: &str, condition: &Condition)
    where
        K: Resource<DynamicType = ()>,
    {
        let event = Event {
            type_: if condition.status == "False" {
                EventType::Warning
            } else {
                EventType::Normal
            },
            reason: condition.reason.clone(),
            note: Some(cut(&condition.message)),
            action: action.to_owned(),
            secondary: None,
        };
        if let Err(error) = self.recorder.publish(&event, &object.object_ref(&())).await {
            tracing::warn!(object = object.name_any(), %error, "failed to publish an Event");
        }
    }
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
    #[test]
    fn notes_are_cut_between_characters() {
        assert_eq!(super::cut("short"), "short");
        assert_eq!(super::cut(&"é".repeat(800)).len(), 1000);
        assert_eq!(super::cut(&format!("a{}", "é".repeat(800))).len(), 999);
    }
}
