//! What the schema refuses at the API server (what must be seen 7): never accepted and then ignored, and the message says what to change.

use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use mcp_fleet_crds::McpServer;
use serde_json::{Value, json};

use crate::Test;
use crate::bad_workload;
use crate::world::World;

/// A server's spec, or a change of one that is there; and words that the refusal must have.
const REFUSED: [(&str, &str, &[&str]); 20] = [
    (
        "negative_replicas",
        r#"{"replicas": -1}"#,
        &["spec.replicas", "greater than or equal to 0"],
    ),
    (
        "port_zero",
        r#"{"port": 0}"#,
        &["spec.port", "greater than or equal to 1"],
    ),
    (
        "port_too_large",
        r#"{"service": {"port": 70000}}"#,
        &["spec.service.port", "65535"],
    ),
    (
        "unknown_pull_policy",
        r#"{"imagePullPolicy": "Sometimes"}"#,
        &["spec.imagePullPolicy", "supported values"],
    ),
    ("image_with_spaces", r#"{"image": "two words"}"#, &["spec.image"]),
    ("args_without_image", r#"{"args": ["--verbose"]}"#, &["set image"]),
    (
        "no_transport",
        r#"{"transports": {}}"#,
        &["at least one of streamableHttp and sse"],
    ),
    (
        "path_without_slash",
        r#"{"transports": {"streamableHttp": {"path": "mcp"}}}"#,
        &["spec.transports.streamableHttp.path"],
    ),
    (
        "cluster_ip_without_backend_url",
        r#"{"service": {"type": "ClusterIP"}}"#,
        &["set gateway.backendUrl"],
    ),
    (
        "cluster_ip_with_sources",
        r#"{"service": {"type": "ClusterIP", "sources": ["Any"]}, "gateway": {"enabled": false}}"#,
        &["sources restrict a load balancer"],
    ),
    (
        "any_and_a_range",
        r#"{"service": {"sources": ["Any", "10.0.0.0/8"]}}"#,
        &["Any stands alone"],
    ),
    (
        "source_that_is_no_range",
        r#"{"service": {"sources": ["everyone"]}}"#,
        &["spec.service.sources"],
    ),
    (
        "rate_limit_without_subscription",
        r#"{"gateway": {"subscriptionRequired": false, "rateLimit": {"calls": 5}}}"#,
        &["remove rateLimit, or require a subscription"],
    ),
    (
        "rate_limit_of_zero",
        r#"{"gateway": {"rateLimit": {"calls": 0}}}"#,
        &["spec.gateway.rateLimit.calls"],
    ),
    (
        "period_too_long",
        r#"{"gateway": {"rateLimit": {"calls": 5, "renewalSeconds": 301}}}"#,
        &["spec.gateway.rateLimit.renewalSeconds", "300"],
    ),
    (
        "timeout_too_long",
        r#"{"gateway": {"timeoutSeconds": 241}}"#,
        &["spec.gateway.timeoutSeconds", "240"],
    ),
    (
        "path_with_a_slash_in_front",
        r#"{"gateway": {"path": "/tools/weather"}}"#,
        &["spec.gateway.path"],
    ),
    (
        "credentials_for_every_origin",
        r#"{"gateway": {"cors": {"allowedOrigins": ["*"], "allowCredentials": true}}}"#,
        &["allowedOrigins"],
    ),
    (
        "mount_without_volume",
        r#"{"podTemplate": {"volumeMounts": [{"name": "data", "mountPath": "/data"}]}}"#,
        &["podTemplate.volumeMounts"],
    ),
    (
        "unknown_policy",
        r#"{"gateway": {"managementPolicy": "Ignore"}}"#,
        &["spec.gateway.managementPolicy", "supported values"],
    ),
];

pub fn tests() -> Vec<Test> {
    vec![
        Test::new("bad_spec::the_api_server_refuses_bad_specs_and_says_why", refused),
        Test::new(
            "bad_spec::names_and_changes_that_would_break_are_refused",
            names_and_changes,
        ),
        Test::new(
            "bad_spec::gateways_and_accesses_that_make_no_sense_are_refused",
            other_kinds,
        ),
        Test::new("bad_spec::an_unknown_field_is_refused_by_kubectl", unknown_field),
    ]
}

async fn refused(world: Arc<World>) -> Result<()> {
    let mut wrong = Vec::new();
    for (name, spec, words) in REFUSED.into_iter().chain(bad_workload::REFUSED) {
        let spec: Value = serde_json::from_str(spec).with_context(|| name)?;
        let object = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": "refused", "namespace": "default"}, "spec": spec});
        match refusal(&world, &object).await {
            Ok(message) if words.iter().all(|word| message.contains(word)) => {}
            Ok(message) => wrong.push(format!("{name}: {message}")),
            Err(error) => wrong.push(format!("{name}: {error}")),
        }
    }
    for (name, spec) in bad_workload::ACCEPTED {
        let spec: Value = serde_json::from_str(spec).with_context(|| name)?;
        let object = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": "accepted", "namespace": "default"}, "spec": spec});
        if let Err(error) = dry_run(world.client(), &object).await {
            wrong.push(format!("{name}: {error}"));
        }
    }
    ensure!(
        wrong.is_empty(),
        "every spec is refused with the words that help:\n{}",
        wrong.join("\n")
    );
    Ok(())
}

/// What the API server says against an object, created in a dry run.
async fn refusal(world: &World, object: &Value) -> Result<String> {
    match dry_run(world.client(), object).await {
        Err(kube::Error::Api(status)) if status.code == 422 => Ok(status.message.clone()),
        Err(error) => Err(error.into()),
        Ok(()) => bail!("accepted"),
    }
}

async fn dry_run(client: Client, object: &Value) -> kube::Result<()> {
    let kind = object["kind"].as_str().unwrap_or_default();
    let plural = match kind {
        "McpAccess" => "mcpaccesses".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let namespace = object["metadata"]["namespace"]
        .as_str()
        .map(|namespace| format!("/namespaces/{namespace}"))
        .unwrap_or_default();
    let uri = format!("/apis/mcpfleet.dev/v1alpha1{namespace}/{plural}?dryRun=All");
    let request = http::Request::post(uri)
        .header("Content-Type", "application/json")
        .body(object.to_string().into_bytes());
    let request = request.map_err(|error| kube::Error::Service(error.into()))?;
    client.request::<Value>(request).await.map(drop)
}

async fn names_and_changes(world: Arc<World>) -> Result<()> {
    for name in ["Weather", "1weather", "weather.example", &"w".repeat(51)] {
        let object = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": name, "namespace": "default"}, "spec": {}});
        let message = refusal(&world, &object).await.with_context(|| name.to_owned())?;
        ensure!(
            message.contains("metadata.name") || message.contains("RFC 1123"),
            "{name}: {message}"
        );
    }
    world
        .clone()
        .with_place("frozen", async |place| {
            let spec = json!({"replicas": 0, "service": {"loadBalancerClass": "example.com/one"}, "gateway": {"name": "contoso"}});
            place.create("weather", spec).await?;
            let servers = place.servers();
            for (change, words) in [
                (json!({"spec": {"gateway": {"name": "another"}}}), "gateway.name cannot be changed"),
                // Nor by taking the block away, to put another one there later.
                (json!({"spec": {"gateway": null}}), "gateway.name cannot be changed"),
                (json!({"spec": {"service": null}}), "loadBalancerClass cannot be changed"),
                (json!({"spec": {"service": {"loadBalancerClass": "example.com/two"}}}), "loadBalancerClass cannot be changed"),
            ] {
                let params = PatchParams { dry_run: true, ..PatchParams::default() };
                match servers.patch("weather", &params, &Patch::Merge(&change)).await {
                    Err(kube::Error::Api(status)) if status.message.contains(words) => {}
                    other => bail!("{change} should be refused with {words:?}: {other:?}"),
                }
            }
            Ok(())
        })
        .await
}

async fn other_kinds(world: Arc<World>) -> Result<()> {
    let apim = json!({"subscriptionId": "00000000-0000-0000-0000-000000000001", "resourceGroup": "demo", "serviceName": "contoso"});
    let with = |member: &str, value: Value| {
        let mut apim = apim.clone();
        apim[member] = value;
        json!({"clusterId": "demo", "apim": apim})
    };
    let endpoints = json!({"endpoint": "https://arm.example.com", "authority": "https://login.example.com"});
    let mut both = with("cloud", json!("AzurePublic"));
    both["apim"]["endpoints"] = endpoints;
    for (kind, spec, word) in [
        (
            "McpGateway",
            json!({"clusterId": "demo"}),
            "exactly one kind of gateway",
        ),
        (
            "McpGateway",
            json!({"clusterId": "Demo_1", "apim": apim}),
            "spec.clusterId",
        ),
        (
            "McpGateway",
            with("subscriptionId", json!("mine")),
            "spec.apim.subscriptionId",
        ),
        (
            "McpGateway",
            with(
                "endpoints",
                json!({"endpoint": "http://arm.example.com", "authority": "https://login.example.com"}),
            ),
            "spec.apim.endpoints.endpoint",
        ),
        ("McpGateway", both, "give cloud or endpoints, not both"),
        ("McpAccess", json!({"servers": []}), "spec.servers"),
        ("McpAccess", json!({}), "give servers or selector"),
        (
            "McpAccess",
            json!({"servers": [{"name": "weather"}], "selector": {"matchLabels": {"a": "b"}}}),
            "give servers or selector",
        ),
        (
            "McpAccess",
            json!({"selector": {"namespaces": ["Not_A_Name"]}}),
            "spec.selector.namespaces",
        ),
        (
            "McpAccess",
            json!({"servers": [{"name": "weather"}, {"name": "weather"}]}),
            "each is named once",
        ),
        (
            "McpAccess",
            json!({"servers": [{"name": "weather"}], "secretName": "Not_A_Name"}),
            "spec.secretName",
        ),
    ] {
        let mut object = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": kind, "metadata": {"name": "refused"}, "spec": spec});
        if kind == "McpAccess" {
            object["metadata"]["namespace"] = json!("default");
        }
        let message = refusal(&world, &object)
            .await
            .with_context(|| object.to_string())?;
        ensure!(
            message.contains(word),
            "{object} should be refused with {word:?}: {message}"
        );
    }
    Ok(())
}

async fn unknown_field(world: Arc<World>) -> Result<()> {
    let yaml = "{apiVersion: mcpfleet.dev/v1alpha1, kind: McpServer, metadata: {name: refused, namespace: default}, spec: {replica: 3}}";
    let error = match world.kubectl().apply(yaml).await {
        Ok(said) => bail!("kubectl should refuse an unknown field: {said}"),
        Err(error) => format!("{error:#}"),
    };
    ensure!(
        error.contains("unknown field") && error.contains("spec.replica"),
        "{error}"
    );
    let servers: Api<McpServer> = Api::namespaced(world.client(), "default");
    ensure!(servers.get_opt("refused").await?.is_none(), "nothing was made");
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    let fine = json!({"apiVersion": "mcpfleet.dev/v1alpha1", "kind": "McpServer", "metadata": {"name": "fine", "namespace": "default"}, "spec": {}});
    servers
        .create(&params, &serde_json::from_value(fine)?)
        .await
        .context("an empty spec is fine")?;
    Ok(())
}
