//! The kubelet's probes. In: what is asked, and on which ports; out: three probes. Pure.

use k8s_openapi::api::core::v1::{HTTPGetAction, Probe, TCPSocketAction};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::names;
use crate::server::validate::{Ask, Health};

/// What a container is asked; without a question there is no probe.
pub struct Probes {
    pub startup: Option<Probe>,
    pub liveness: Option<Probe>,
    pub readiness: Option<Probe>,
}

/// Builds. `live_port` is where it is asked whether the container lives.
pub fn build(health: &Health, live_port: &str, https: bool) -> Probes {
    let period = |usual: i32| Some(health.period_seconds.unwrap_or(usual));
    let failures = |usual: i32| Some(health.failure_threshold.unwrap_or(usual));
    let ask = |question: &Ask, port: &str| {
        let https = https && port == names::PORT;
        probe(question, port, https, health.timeout_seconds)
    };
    let live = ask(&health.live, live_port);
    Probes {
        // Asked often, so that a quick server is ready at once.
        startup: live.clone().map(|live| Probe {
            period_seconds: Some(1),
            failure_threshold: Some(health.startup_seconds),
            initial_delay_seconds: health.initial_delay_seconds,
            ..live
        }),
        liveness: live.map(|live| Probe {
            period_seconds: period(10),
            failure_threshold: failures(3),
            ..live
        }),
        readiness: ask(&health.ready, names::PORT).map(|ready| Probe {
            period_seconds: period(5),
            failure_threshold: failures(2),
            ..ready
        }),
    }
}

fn probe(question: &Ask, port: &str, https: bool, timeout_seconds: i32) -> Option<Probe> {
    let port = IntOrString::String(port.to_owned());
    let base = Probe {
        timeout_seconds: Some(timeout_seconds),
        ..Probe::default()
    };
    match question {
        Ask::Get(path) => Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some(path.clone()),
                port,
                scheme: https.then(|| "HTTPS".to_owned()),
                ..HTTPGetAction::default()
            }),
            ..base
        }),
        Ask::Connect => Some(Probe {
            tcp_socket: Some(TCPSocketAction {
                port,
                ..TCPSocketAction::default()
            }),
            ..base
        }),
        Ask::Nothing => None,
    }
}
