//! Writes, counted by those who took them. In: the API server's audit log and the stand-in's journal, and a mark. Out: what was
//! written since then, by whom and to what.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::apim::Control;
use crate::cluster::Cluster;
use crate::progress::Progress;

/// The end of the operator's user name.
const OPERATOR: &str = ":mcp-fleet-operator";
/// The operator has written nothing, to nobody, for this long: the phase is over.
const SETTLED: Duration = Duration::from_secs(8);
/// Something writes for ever: the phase is cut here, and its count says so.
const SETTLE_LIMIT: Duration = Duration::from_secs(90);
const POLL: Duration = Duration::from_millis(500);

/// Both journals.
#[derive(Debug)]
pub struct Journals {
    audit_log: PathBuf,
    control: Control,
}

/// A moment in both journals.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    audit_bytes: u64,
    arm_sequence: u64,
}

/// What was written, each kind with its number.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Writes {
    /// User, then verb and resource.
    pub kubernetes: BTreeMap<String, BTreeMap<String, usize>>,
    /// Method and type of resource.
    pub arm: BTreeMap<String, usize>,
    pub arm_reads: usize,
}

/// The part of an audit event that counts here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    user: User,
    object_ref: Option<ObjectRef>,
}

#[derive(Debug, Deserialize)]
struct User {
    username: String,
}

#[derive(Debug, Default, Deserialize)]
struct ObjectRef {
    #[serde(default)]
    resource: String,
    #[serde(default)]
    subresource: String,
}

impl Journals {
    pub fn of(cluster: &Cluster, control: Control) -> Result<Self> {
        Ok(Self {
            audit_log: cluster.audit_log()?,
            control,
        })
    }

    pub async fn mark(&self) -> Result<Mark> {
        Ok(Mark {
            audit_bytes: self
                .audit_log
                .metadata()
                .context("failed to find the audit log")?
                .len(),
            arm_sequence: self.control.requests(u64::MAX).await?.last,
        })
    }

    pub async fn since(&self, mark: Mark) -> Result<Writes> {
        let mut writes = Writes::default();
        let mut file = File::open(&self.audit_log).context("failed to open the audit log")?;
        file.seek(SeekFrom::Start(mark.audit_bytes))?;
        for line in BufReader::new(file).lines() {
            // The last line may still be being written; it is counted next time.
            if let Ok(event) = serde_json::from_str(&line?) {
                writes.add_kubernetes(event);
            }
        }
        for request in self.control.requests(mark.arm_sequence).await?.requests {
            writes.add_arm(&request.method, &request.path);
        }
        Ok(writes)
    }

    /// Waits until the operator writes nothing any more.
    pub async fn settle(&self, progress: &Progress) -> Result<()> {
        let mark = self.mark().await?;
        self.since_when_settled(mark, progress).await.map(drop)
    }

    /// What was written since then, when the operator writes nothing any more.
    pub async fn since_when_settled(&self, mark: Mark, progress: &Progress) -> Result<Writes> {
        let started = Instant::now();
        let (mut writes, mut changed) = (self.since(mark).await?, Instant::now());
        while changed.elapsed() < SETTLED {
            if started.elapsed() > SETTLE_LIMIT {
                progress.say(format_args!("  still writing after {} s", SETTLE_LIMIT.as_secs()));
                break;
            }
            tokio::time::sleep(POLL).await;
            let now = self.since(mark).await?;
            // Others, such as the kubelet, report for ever.
            if (now.by_operator(), &now.arm) != (writes.by_operator(), &writes.arm) {
                changed = Instant::now();
            }
            writes = now;
        }
        Ok(writes)
    }
}

impl Writes {
    fn add_kubernetes(&mut self, event: Event) {
        let object = event.object_ref.unwrap_or_default();
        let resource = match object.subresource.as_str() {
            "" => object.resource,
            subresource => format!("{}/{subresource}", object.resource),
        };
        // Questions that are asked by POST change nothing.
        if resource.ends_with("accessreviews") || resource == "tokenreviews" {
            return;
        }
        let by_user = self.kubernetes.entry(event.user.username).or_default();
        *by_user.entry(format!("{} {resource}", event.verb)).or_default() += 1;
    }

    fn add_arm(&mut self, method: &str, path: &str) {
        if matches!(method, "GET" | "HEAD") {
            self.arm_reads += 1;
            return;
        }
        *self
            .arm
            .entry(format!("{method} {}", arm_type(path)))
            .or_default() += 1;
    }

    pub fn arm_total(&self) -> usize {
        self.arm.values().sum()
    }

    /// The operator's writes to Kubernetes.
    pub fn by_operator(&self) -> BTreeMap<String, usize> {
        let own = self.kubernetes.iter().find(|(user, _)| user.ends_with(OPERATOR));
        own.map(|(_, writes)| writes.clone()).unwrap_or_default()
    }
}

/// `apis/policies` of `/subscriptions/../service/contoso/apis/weather/policies/policy`: each second part below the service.
fn arm_type(path: &str) -> String {
    let path = path.split('?').next().unwrap_or_default();
    let lower = path.to_ascii_lowercase();
    let below = lower
        .find("/service/")
        .map_or(path, |at| &path[at + "/service/".len()..]);
    // The first part is the service's name.
    let parts: Vec<&str> = below.split('/').skip(1).step_by(2).collect();
    parts.join("/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_told_without_names() {
        let service =
            "/subscriptions/0/resourceGroups/demo/providers/Microsoft.ApiManagement/service/contoso";
        for (path, wanted) in [
            ("/apis/weather?api-version=2024-05-01", "apis"),
            ("/apis/weather/policies/policy", "apis/policies"),
            ("/subscriptions/key/listSecrets", "subscriptions/listSecrets"),
            ("/backends/weather", "backends"),
        ] {
            assert_eq!(arm_type(&format!("{service}{path}")), wanted);
        }
    }

    #[test]
    fn writes_are_counted_by_user_and_resource() {
        let mut writes = Writes::default();
        for (verb, user, resource, subresource) in [
            (
                "patch",
                "system:serviceaccount:a:mcp-fleet-operator",
                "mcpservers",
                "status",
            ),
            (
                "patch",
                "system:serviceaccount:a:mcp-fleet-operator",
                "mcpservers",
                "status",
            ),
            ("create", "admin", "tokenreviews", ""),
            ("create", "admin", "pods", ""),
        ] {
            let event = serde_json::json!({"verb": verb, "user": {"username": user}, "objectRef": {"resource": resource, "subresource": subresource}});
            writes.add_kubernetes(serde_json::from_value(event).unwrap());
        }
        assert_eq!(
            writes.by_operator(),
            BTreeMap::from([("patch mcpservers/status".to_owned(), 2)])
        );
        assert_eq!(
            writes.kubernetes["admin"],
            BTreeMap::from([("create pods".to_owned(), 1)])
        );
    }
}
