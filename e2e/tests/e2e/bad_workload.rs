//! What the schema refuses about pods, probes, ports and paths, and what it must accept.

/// A server's spec, and words that the refusal must have.
pub const REFUSED: [(&str, &str, &[&str]); 16] = [
    (
        "paths_without_http",
        r#"{"image": "i", "health": {"type": "Tcp", "path": "/healthz"}}"#,
        &["path and readyPath belong to health.type Http"],
    ),
    (
        "times_without_a_question",
        r#"{"image": "i", "health": {"type": "None", "startupSeconds": 100}}"#,
        &["health.type None asks nothing"],
    ),
    (
        "start_of_a_day",
        r#"{"health": {"startupSeconds": 86400}}"#,
        &["spec.health.startupSeconds", "3600"],
    ),
    (
        "pause_longer_than_the_end",
        r#"{"preStopSeconds": 30}"#,
        &["preStopSeconds is part of terminationGracePeriodSeconds"],
    ),
    (
        "unknown_strategy",
        r#"{"strategy": "BlueGreen"}"#,
        &["spec.strategy", "supported values"],
    ),
    (
        "root",
        r#"{"podTemplate": {"securityContext": {"runAsUser": 0}}}"#,
        &[
            "spec.podTemplate.securityContext.runAsUser",
            "greater than or equal to 1",
        ],
    ),
    (
        "init_container_of_our_name",
        r#"{"podTemplate": {"initContainers": [{"name": "mcp", "image": "i"}]}}"#,
        &["mcp is the server's container"],
    ),
    (
        "sidecar_of_our_name",
        r#"{"podTemplate": {"sidecars": [{"name": "mcp", "image": "i"}]}}"#,
        &["mcp is the server's container"],
    ),
    (
        "sidecar_without_an_image",
        r#"{"podTemplate": {"sidecars": [{"name": "a"}]}}"#,
        &["spec.podTemplate.sidecars[0].image", "Required value"],
    ),
    (
        "no_name_server",
        r#"{"podTemplate": {"dnsPolicy": "None"}}"#,
        &["dnsConfig.nameservers"],
    ),
    (
        "two_ports_of_one_number",
        r#"{"extraPorts": [{"name": "a", "port": 9}, {"name": "b", "port": 9}]}"#,
        &["extraPorts differ by name and by port"],
    ),
    (
        "port_name_of_ours",
        r#"{"extraPorts": [{"name": "mcp", "port": 9}]}"#,
        &["is not mcp"],
    ),
    (
        "monitor_of_no_port",
        r#"{"image": "i", "monitor": {"port": "metrics"}}"#,
        &["monitor.port names one of extraPorts"],
    ),
    (
        "two_authorities",
        r#"{"image": "i", "tls": {"ca": {"configMapName": "a", "secretName": "b"}}}"#,
        &["exactly one of configMapName and secretName"],
    ),
    (
        "two_families_of_a_single_stack",
        r#"{"service": {"ipFamilies": ["IPv4", "IPv6"]}}"#,
        &["two ipFamilies need ipFamilyPolicy"],
    ),
    (
        "path_with_a_query",
        r#"{"transports": {"streamableHttp": {"path": "/mcp?key=1"}}}"#,
        &["spec.transports.streamableHttp.path"],
    ),
];

/// Specs that must be accepted.
pub const ACCEPTED: [(&str, &str); 6] = [
    (
        "at_the_root",
        r#"{"transports": {"streamableHttp": {"path": "/"}}}"#,
    ),
    (
        "with_a_slash",
        r#"{"transports": {"streamableHttp": {"path": "/mcp/"}, "sse": {"path": "/sse/", "messagesPath": "/"}}}"#,
    ),
    (
        "monitor_of_the_bundled_image",
        r#"{"monitor": {"port": "metrics"}}"#,
    ),
    ("nothing_asked", r#"{"image": "i", "health": {"type": "None"}}"#),
    (
        "containers",
        r#"{"podTemplate": {"securityContext": {"runAsUser": 1000, "fsGroup": 0}, "initContainers": [{"name": "a", "image": "i"}],
            "sidecars": [{"name": "b", "image": "i", "ports": [{"name": "http", "port": 81}], "env": [{"name": "A", "value": "1"}]}]}}"#,
    ),
    (
        "a_long_end",
        r#"{"terminationGracePeriodSeconds": 600, "preStopSeconds": 60, "strategy": "Recreate", "tls": {"ca": {"configMapName": "a"}}}"#,
    ),
];
