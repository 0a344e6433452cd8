//! Environment of the server's container. In: the workload; out: variables, each once. Pure.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, ObjectFieldSelector};

use super::names;
use crate::server::validate::{Image, Workload};

/// Names under which the bundled image is called; what others say is added to what we say.
const HOSTS: &str = "ALLOWED_HOSTS";
/// Takes over a list of hosts that comes from elsewhere, so that ours can refer to it.
const OTHER_HOSTS: &str = "MCP_FLEET_OTHER_HOSTS";

/// What the bundled image is told by us, then by who installed the operator, then by the user: the last one wins.
pub fn build(workload: &Workload) -> Vec<EnvVar> {
    let Image::Bundled {
        hosts,
        env,
        secret_header,
        ..
    } = &workload.image
    else {
        return overridden(vec![], &[&workload.env]);
    };
    let ports = names::bundled_ports(workload.port).map(|(_, port)| port.to_string());
    let [peer_port, metrics_port] = ports;
    let pod_ip = EnvVar {
        name: "POD_IP".to_owned(),
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                field_path: "status.podIP".to_owned(),
                ..ObjectFieldSelector::default()
            }),
            ..EnvVarSource::default()
        }),
        ..EnvVar::default()
    };
    let key_file = format!("{}/{}", names::REPLICA_KEY_FOLDER, names::REPLICA_KEY_ENTRY);
    let mut ours = vec![
        value("PORT", workload.port.to_string()),
        value("METRICS_PORT", metrics_port),
        value("PEER_PORT", peer_port),
        pod_ip,
        value("REPLICA_KEY_FILE", key_file),
    ];
    if let Some(header) = secret_header {
        let file = format!("{}/{}", names::GATEWAY_SECRET_FOLDER, names::GATEWAY_SECRET_ENTRY);
        ours.push(value("GATEWAY_SECRET_FILE", file));
        ours.push(value("GATEWAY_SECRET_HEADER", header.clone()));
    }
    with_hosts(overridden(ours, &[env, &workload.env]), hosts)
}

fn overridden(ours: Vec<EnvVar>, laters: &[&[EnvVar]]) -> Vec<EnvVar> {
    let mut env = ours;
    for later in laters {
        env.retain(|earlier| !later.iter().any(|variable| variable.name == earlier.name));
        env.extend(later.iter().cloned());
    }
    env
}

/// The operator itself calls by the Service's names: a list of other hosts must not shut it out.
fn with_hosts(mut env: Vec<EnvVar>, ours: &[String]) -> Vec<EnvVar> {
    let place = env.iter().position(|variable| variable.name == HOSTS);
    let Some(place) = place else {
        env.push(value(HOSTS, ours.join(",")));
        return env;
    };
    let given = env.remove(place);
    let others = match (given.value, given.value_from) {
        (_, Some(source)) => {
            env.push(EnvVar {
                name: OTHER_HOSTS.to_owned(),
                value_from: Some(source),
                ..EnvVar::default()
            });
            format!("$({OTHER_HOSTS})")
        }
        (given, None) => given.unwrap_or_default(),
    };
    let mut hosts = ours.to_vec();
    for other in others.split(',').map(str::trim).filter(|host| !host.is_empty()) {
        if !hosts.iter().any(|host| host == other) {
            hosts.push(other.to_owned());
        }
    }
    env.push(value(HOSTS, hosts.join(",")));
    env
}

fn value(name: &str, value: String) -> EnvVar {
    EnvVar {
        name: name.to_owned(),
        value: Some(value),
        ..EnvVar::default()
    }
}
