//! What is registered, read back by libraries that others wrote (what must be seen 3): `azure_mgmt_apimanagement` for Rust and
//! `azure-mgmt-apimanagement` for Python.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use azure_core_of_mgmt::auth::{AccessToken, Secret, TokenCredential};
use azure_core_of_mgmt::error::{Error, ErrorKind};
use azure_core_of_mgmt::headers::{HeaderName, HeaderValue, Headers};
use azure_core_of_mgmt::{BytesStream, HttpClient, Request, Response, StatusCode, TransportOptions};
use azure_mgmt_apimanagement::package_preview_2023_09::Client;
use futures::StreamExt;
use kube::Api;
use mcp_fleet_crds::{McpAccess, McpServer};
use mcp_fleet_e2e::install::ARM_HOST;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::Test;
use crate::place::gateway_url;
use crate::world::{RESOURCE_GROUP, SERVICE, SUBSCRIPTION, World};

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "read_back::azure_mgmt_apimanagement_for_rust_reads_all_that_was_registered",
            by_rust,
        ),
        Test::new(
            "read_back::azure_mgmt_apimanagement_for_python_reads_all_that_was_registered",
            by_python,
        )
        .local("Python runs in the network outside of a local cluster"),
    ]
}

/// Names of what the examples registered.
struct Names {
    api: String,
    backend: String,
    product: String,
    subscription: String,
    path: String,
    balancer: String,
}

async fn names(world: &World) -> Result<Names> {
    let server = Api::<McpServer>::namespaced(world.client(), "tools")
        .get("weather")
        .await?;
    let access = Api::<McpAccess>::namespaced(world.client(), "tools")
        .get("agents")
        .await?;
    let registered = server
        .status
        .as_ref()
        .and_then(|status| status.gateway.clone())
        .context("a registration")?;
    let opened = access
        .status
        .and_then(|status| status.gateway)
        .context("a product")?;
    let last = |id: Option<String>| {
        id.and_then(|id| id.rsplit('/').next().map(str::to_owned))
            .context("an id")
    };
    let service = Api::<k8s_openapi::api::core::v1::Service>::namespaced(world.client(), "tools")
        .get("weather")
        .await?;
    let ingress = service
        .status
        .and_then(|status| status.load_balancer?.ingress)
        .unwrap_or_default();
    let path = registered.path.clone().context("a path")?;
    ensure!(
        gateway_url(&server)?.ends_with(&format!("/{path}/mcp")),
        "the URL has the path"
    );
    Ok(Names {
        api: last(registered.api_id)?,
        backend: last(registered.backend_id)?,
        product: last(opened.product_id)?,
        subscription: last(opened.subscription_id)?,
        path,
        balancer: ingress
            .first()
            .and_then(|ingress| ingress.ip.clone())
            .context("an address")?,
    })
}

/// What both libraries must agree on.
#[derive(Debug, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Seen {
    backend_url: String,
    path: String,
    service_url: Option<String>,
    subscription_required: bool,
    /// Method and URL template, sorted.
    operations: Vec<(String, String)>,
    policy: String,
    product_published: bool,
    product_apis: Vec<String>,
    subscription_scope: String,
    subscription_active: bool,
    key_shown: bool,
}

fn check(seen: &Seen, names: &Names) -> Result<()> {
    ensure!(
        seen.backend_url.contains(&names.balancer),
        "the backend is the load balancer: {seen:?}"
    );
    ensure!(
        seen.path == names.path,
        "the path is that of the status: {seen:?}"
    );
    ensure!(
        seen.service_url.as_deref().unwrap_or_default().is_empty(),
        "no way past the policy: {seen:?}"
    );
    ensure!(seen.subscription_required, "a key is needed: {seen:?}");
    let operations = [
        ("DELETE", "/mcp"),
        ("GET", "/mcp"),
        ("GET", "/sse"),
        ("HEAD", "/mcp"),
        ("POST", "/mcp"),
        ("POST", "/messages/{session_id}"),
    ];
    let operations: Vec<_> = operations
        .map(|(method, template)| (method.to_owned(), template.to_owned()))
        .into();
    ensure!(
        seen.operations == operations,
        "every transport has its operations: {seen:?}"
    );
    for part in [
        format!("backend-id=\"{}\"", names.backend),
        "<rate-limit ".to_owned(),
        "buffer-response=\"false\"".to_owned(),
    ] {
        ensure!(
            seen.policy.contains(&part),
            "the policy has {part}: {}",
            seen.policy
        );
    }
    for name in ["Ocp-Apim-Subscription-Key", "subscription-key"] {
        ensure!(
            seen.policy.contains(name),
            "the policy deletes {name}: {}",
            seen.policy
        );
    }
    ensure!(
        seen.product_published && seen.product_apis == [names.api.clone()],
        "the product opens the API: {seen:?}"
    );
    ensure!(
        seen.subscription_scope
            .to_lowercase()
            .ends_with(&format!("/products/{}", names.product).to_lowercase()),
        "the key is for the product: {seen:?}"
    );
    ensure!(seen.subscription_active, "the key is active: {seen:?}");
    ensure!(!seen.key_shown, "no key is shown");
    Ok(())
}

async fn by_rust(world: Arc<World>) -> Result<()> {
    let names = names(&world).await?;
    let token = Arc::new(Given(world.arm_token().await?));
    let endpoint =
        azure_core_of_mgmt::Url::parse(&format!("https://{ARM_HOST}:{}", world.installed.arm.port()))?;
    let transport = TransportOptions::new(Arc::new(Transport(world.https(ARM_HOST)?)));
    let client = Client::builder(token)
        .endpoint(endpoint)
        .scopes(&["https://management.azure.com/.default"])
        .transport(transport)
        .build()?;
    let (group, service, subscription) = (RESOURCE_GROUP, SERVICE, SUBSCRIPTION);

    let backend = client
        .backend_client()
        .get(group, service, &names.backend, subscription)
        .await?;
    let backend = backend.properties.context("properties of the backend")?;
    let api = client
        .api_client()
        .get(group, service, &names.api, subscription)
        .await?
        .properties
        .context("properties of the API")?;
    let mut operations = Vec::new();
    let mut pages = client
        .api_operation_client()
        .list_by_api(group, service, &names.api, subscription)
        .into_stream();
    while let Some(page) = pages.next().await {
        operations.extend(
            page?
                .value
                .into_iter()
                .filter_map(|operation| operation.properties),
        );
    }
    let mut operations: Vec<_> = operations
        .into_iter()
        .map(|operation| (operation.method, operation.url_template))
        .collect();
    operations.sort();
    let policy = client
        .api_policy_client()
        .get(group, service, &names.api, "policy", subscription)
        .await?;
    let product = client
        .product_client()
        .get(group, service, &names.product, subscription)
        .await?;
    let product = product
        .properties
        .context("properties of the product")?
        .product_entity_base_parameters;
    let mut product_apis = Vec::new();
    let mut pages = client
        .product_api_client()
        .list_by_product(group, service, &names.product, subscription)
        .into_stream();
    while let Some(page) = pages.next().await {
        product_apis.extend(
            page?
                .value
                .into_iter()
                .filter_map(|api| api.proxy_resource.resource.name),
        );
    }
    let key = client
        .subscription_client()
        .get(group, service, &names.subscription, subscription)
        .await?;
    let key = key.properties.context("properties of the subscription")?;

    let seen = Seen {
        backend_url: backend.url,
        path: api.path,
        service_url: api.service_url,
        subscription_required: api.api_entity_base_contract.subscription_required == Some(true),
        operations,
        policy: policy.properties.context("properties of the policy")?.value,
        product_published: serde_json::to_value(&product.state)? == json!("published"),
        product_apis,
        subscription_scope: key.scope,
        subscription_active: serde_json::to_value(&key.state)? == json!("active"),
        key_shown: key.primary_key.is_some(),
    };
    check(&seen, &names)
}

async fn by_python(world: Arc<World>) -> Result<()> {
    let names = names(&world).await?;
    let arguments = BTreeMap::from([
        ("endpoint", format!("https://{ARM_HOST}:8443")),
        ("subscription", SUBSCRIPTION.to_owned()),
        ("group", RESOURCE_GROUP.to_owned()),
        ("service", SERVICE.to_owned()),
        ("api", names.api.clone()),
        ("backend", names.backend.clone()),
        ("product", names.product.clone()),
        ("product-subscription", names.subscription.clone()),
    ]);
    let token = world.arm_token().await?;
    let start = |program: &Path| world.cluster.outside_command(program);
    let answer = world
        .clients
        .read_back(&start, &token, &world.installed.authority(), &arguments)
        .await?;
    let text = |path: &str| {
        answer
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let mut operations: Vec<_> = answer["operations"]
        .as_array()
        .context("operations")?
        .iter()
        .map(|operation| {
            let member = |name: &str| {
                operation["properties"][name]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            };
            (member("method"), member("urlTemplate"))
        })
        .collect();
    operations.sort();
    let seen = Seen {
        backend_url: text("/backend/properties/url"),
        path: text("/api/properties/path"),
        service_url: Some(text("/api/properties/serviceUrl")),
        subscription_required: answer.pointer("/api/properties/subscriptionRequired") == Some(&json!(true)),
        operations,
        policy: text("/policy/properties/value"),
        product_published: text("/product/properties/state") == "published",
        product_apis: serde_json::from_value(answer["product_apis"].clone())?,
        subscription_scope: text("/subscription/properties/scope"),
        subscription_active: text("/subscription/properties/state") == "active",
        key_shown: answer.pointer("/subscription/properties/primaryKey").is_some(),
    };
    check(&seen, &names).with_context(|| answer.to_string())
}

/// A credential that hands out the token it was given.
#[derive(Debug)]
struct Given(String);

#[async_trait::async_trait]
impl TokenCredential for Given {
    async fn get_token(&self, _scopes: &[&str]) -> azure_core_of_mgmt::Result<AccessToken> {
        let expires = OffsetDateTime::now_utc() + std::time::Duration::from_mins(10);
        Ok(AccessToken::new(Secret::new(self.0.clone()), expires))
    }

    async fn clear_cache(&self) -> azure_core_of_mgmt::Result<()> {
        Ok(())
    }
}

/// Reads alone, over the TLS stack of this workspace.
#[derive(Debug)]
struct Transport(reqwest::Client);

#[async_trait::async_trait]
impl HttpClient for Transport {
    async fn execute_request(&self, request: &Request) -> azure_core_of_mgmt::Result<Response> {
        let failed = |error: reqwest::Error| Error::new(ErrorKind::Io, error);
        let mut sent = self.0.get(request.url().as_str());
        for (name, value) in request.headers().iter() {
            sent = sent.header(name.as_str(), value.as_str());
        }
        let answer = sent.send().await.map_err(failed)?;
        let status = StatusCode::try_from(answer.status().as_u16())
            .map_err(|_| Error::message(ErrorKind::Other, "an unknown status"))?;
        let mut headers = Headers::new();
        for (name, value) in answer.headers() {
            let value = value.to_str().unwrap_or_default().to_owned();
            headers.insert(
                HeaderName::from(name.as_str().to_owned()),
                HeaderValue::from(value),
            );
        }
        let body = answer.bytes().await.map_err(failed)?;
        Ok(Response::new(status, headers, Box::pin(BytesStream::new(body))))
    }
}
