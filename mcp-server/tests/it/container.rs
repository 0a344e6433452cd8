//! Dockerfile and compose file, read: no container engine runs here, but what they promise can be looked up in them.

use clap::CommandFactory as _;
use mcp_weather::config::Config;
use serde_yaml::Value;
use std::collections::BTreeSet;

const DOCKERFILE: &str = include_str!("../../Dockerfile");
const COMPOSE: &str = include_str!("../../compose.yaml");
const WORKSPACE: &str = include_str!("../../../Cargo.toml");

/// Instructions with their arguments; continued lines are one, comments are none.
fn instructions() -> Vec<(String, String)> {
    let joined = DOCKERFILE
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect::<Vec<_>>()
        .join("\n")
        .replace("\\\n", " ");
    let lines = joined.lines().map(str::trim).filter(|line| !line.is_empty());
    lines
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, rest)| (name.to_owned(), rest.trim().to_owned()))
        .collect()
}

fn default_ports() -> BTreeSet<String> {
    let command = Config::command();
    let ports = command.get_arguments().filter(|argument| {
        argument
            .get_env()
            .is_some_and(|name| name.to_str().unwrap().ends_with("PORT"))
    });
    ports
        .map(|port| port.get_default_values()[0].to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn the_image_is_one_static_program_that_is_not_root() {
    let all = instructions();
    let last = all.iter().rposition(|(name, _)| name == "FROM").unwrap();
    let (build, image) = all.split_at(last);
    let of = |part: &[(String, String)], name: &str| -> Vec<String> {
        part.iter()
            .filter(|(known, _)| known == name)
            .map(|(_, rest)| rest.clone())
            .collect()
    };
    assert_eq!(of(image, "FROM"), ["scratch"]);
    assert_eq!(of(image, "USER"), ["65532:65532"]);
    assert_eq!(of(image, "ENTRYPOINT"), [r#"["/mcp-weather"]"#]);
    assert!(of(image, "HEALTHCHECK")[0].ends_with(r#"CMD ["/mcp-weather", "--health-check"]"#));
    let copied: Vec<_> = of(image, "COPY")
        .iter()
        .map(|copy| copy.rsplit_once(' ').unwrap().1.to_owned())
        .collect();
    assert_eq!(copied, ["/etc/ssl/certs/ca-certificates.crt", "/mcp-weather"]);
    assert!(
        of(image, "RUN").is_empty() && of(image, "ADD").is_empty(),
        "nothing can run in it"
    );
    let exposed: BTreeSet<_> = of(image, "EXPOSE")[0].split(' ').map(str::to_owned).collect();
    assert_eq!(exposed, default_ports());

    let version = WORKSPACE
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = \""))
        .unwrap()
        .trim_end_matches('"');
    assert!(
        of(build, "FROM")[0].starts_with(&format!("rust:{version}-")),
        "{:?}",
        of(build, "FROM")
    );
    let run = &of(build, "RUN")[0];
    for part in [
        "amd64) target=x86_64-unknown-linux-gnu",
        "arm64) target=aarch64-unknown-linux-gnu",
        "-C target-feature=+crt-static",
        "cargo build --locked --release --package mcp-weather --no-default-features --bin mcp-weather",
    ] {
        assert!(run.contains(part), "{part} is not in {run}");
    }
}

#[test]
fn compose_locks_the_container_up() {
    let compose: Value = serde_yaml::from_str(COMPOSE).unwrap();
    let service = &compose["services"]["weather"];
    let yes = Value::Bool(true);
    assert_eq!(service["read_only"], yes);
    assert_eq!(service["user"], "65532:65532");
    assert_eq!(
        service["cap_drop"],
        serde_yaml::from_str::<Value>("[ALL]").unwrap()
    );
    assert_eq!(
        service["security_opt"],
        serde_yaml::from_str::<Value>("['no-new-privileges:true']").unwrap()
    );
    assert!(service.get("cap_add").is_none() && service.get("privileged").is_none());
    assert!(service.get("volumes").is_none() && service.get("network_mode").is_none());
    let check: Vec<_> = service["healthcheck"]["test"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|word| word.as_str().unwrap())
        .collect();
    assert_eq!(check, ["CMD", "/mcp-weather", "--health-check"]);
    assert_eq!(service["build"]["dockerfile"], "mcp-server/Dockerfile");
    // Published on loopback only, and the port between replicas not at all.
    let ports: Vec<_> = service["ports"]
        .as_sequence()
        .unwrap()
        .iter()
        .map(|port| port.as_str().unwrap())
        .collect();
    assert!(
        ports
            .iter()
            .all(|port| port.starts_with("127.0.0.1:") && !port.contains("8001")),
        "{ports:?}"
    );
    let inside: BTreeSet<_> = ports
        .iter()
        .map(|port| port.rsplit_once(':').unwrap().1.to_owned())
        .collect();
    assert!(inside.is_subset(&default_ports()), "{inside:?}");
}

#[test]
fn compose_gives_the_server_the_time_to_drain() {
    let compose: Value = serde_yaml::from_str(COMPOSE).unwrap();
    let stop = compose["services"]["weather"]["stop_grace_period"]
        .as_str()
        .unwrap();
    let seconds: f64 = stop.strip_suffix('s').unwrap().parse().unwrap();
    let command = Config::command();
    let grace = command
        .get_arguments()
        .find(|argument| argument.get_env().is_some_and(|name| name == "GRACE_SECONDS"));
    let grace = grace.unwrap().get_default_values()[0].to_str().unwrap();
    assert!(seconds > grace.parse().unwrap());
    for name in compose["services"]["weather"]["environment"]
        .as_mapping()
        .unwrap()
        .keys()
    {
        let known = Config::command().get_arguments().any(|argument| {
            argument
                .get_env()
                .is_some_and(|known| known == name.as_str().unwrap())
        });
        assert!(known, "{name:?} is no setting");
    }
}
