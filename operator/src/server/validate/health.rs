//! How the kubelet asks for health. In: the spec and whose image it is; out: [`Health`].

use mcp_fleet_crds::HealthType;

use super::workload::field;
use crate::server::error::InvalidServer;

/// Where the bundled image answers.
const BUNDLED_PATHS: (&str, &str) = ("/health", "/ready");

/// What is asked, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    pub live: Ask,
    pub ready: Ask,
    pub startup_seconds: i32,
    pub initial_delay_seconds: Option<i32>,
    pub timeout_seconds: i32,
    /// Absent for what is usual: each probe has its own.
    pub period_seconds: Option<i32>,
    pub failure_threshold: Option<i32>,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    Get(String),
    Connect,
    Nothing,
}

impl Health {
    /// What must happen before a pod counts as ready.
    pub fn awaited(&self) -> String {
        match &self.ready {
            Ask::Get(path) => format!("GET {path} must answer 200"),
            Ask::Connect | Ask::Nothing => "it must accept connections".to_owned(),
        }
    }
}

/// Validates.
pub fn health(given: Option<&mcp_fleet_crds::Health>, bundled: bool) -> Result<Health, InvalidServer> {
    let mcp_fleet_crds::Health {
        type_,
        path,
        ready_path,
        startup_seconds,
        initial_delay_seconds,
        period_seconds,
        timeout_seconds,
        failure_threshold,
    } = given.cloned().unwrap_or_default();
    let get = |path: Option<String>| path.map_or(Ask::Connect, Ask::Get);
    let (live, ready) = match type_ {
        Some(HealthType::None) => (Ask::Nothing, Ask::Nothing),
        Some(HealthType::Tcp) => (Ask::Connect, Ask::Connect),
        Some(HealthType::Http) | None if bundled => {
            let (live, ready) = BUNDLED_PATHS;
            (
                Ask::Get(path.unwrap_or_else(|| live.to_owned())),
                Ask::Get(ready_path.unwrap_or_else(|| ready.to_owned())),
            )
        }
        Some(HealthType::Http) if path.is_none() && ready_path.is_none() => {
            return Err(field(
                "health.path",
                "is missing: name the path that answers 200 while the container lives, or choose health.type Tcp or None",
            ));
        }
        // Many servers have one path for both.
        Some(HealthType::Http) | None => (get(path.clone()), get(ready_path.or(path))),
    };
    Ok(Health {
        live,
        ready,
        startup_seconds: startup_seconds.unwrap_or(60),
        initial_delay_seconds: initial_delay_seconds.filter(|seconds| *seconds > 0),
        timeout_seconds: timeout_seconds.unwrap_or(2),
        period_seconds,
        failure_threshold,
    })
}
