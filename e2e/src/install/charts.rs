//! Fifth step of an installation: the two charts, with real Helm, as README tells a platform team.
//!
//! In: the charts of the workspace and values that point them at the stand-ins. Out: CRDs and a ready operator.

use anyhow::{Context, Result};

use super::images::{OPERATOR_IMAGE, WEATHER_IMAGE};
use super::kubectl::Kubectl;
use super::stand_ins::{ARM_HOST, LOGIN_HOST, NWS_URL, PORT, wait_for_deployment};
use super::{Installed, WORKSPACE};
use crate::cluster::Cluster;
use crate::progress::Progress;

pub const OPERATOR_NAMESPACE: &str = "mcp-fleet-system";
pub const CRDS_RELEASE: &str = "mcp-fleet-crds";
pub const RELEASE: &str = "mcp-fleet";
/// Name of the operator's Deployment, service account and lease.
const OPERATOR: &str = "mcp-fleet-operator";
const TENANT_ID: &str = "00000000-0000-0000-0000-00000000000a";
const CLIENT_ID: &str = "00000000-0000-0000-0000-00000000000c";

/// One value of a chart: its path, and JSON.
#[derive(Debug, Clone)]
pub struct Value(pub String, pub serde_json::Value);

impl Value {
    pub fn new(path: impl Into<String>, value: impl Into<serde_json::Value>) -> Self {
        Self(path.into(), value.into())
    }
}

/// The values that make the operator use the stand-ins.
fn stand_in_values() -> Vec<Value> {
    let image = |path: &str, reference: &str| {
        let (repository, tag) = reference.rsplit_once(':').unwrap_or((reference, ""));
        [
            Value::new(format!("{path}.repository"), repository),
            Value::new(format!("{path}.tag"), tag),
        ]
    };
    let mut values = Vec::new();
    values.extend(image("image", OPERATOR_IMAGE));
    values.extend(image("weather.image", WEATHER_IMAGE));
    values.extend([
        Value::new(
            "weather.env",
            serde_json::json!([{"name": "NWS_BASE_URL", "value": NWS_URL}]),
        ),
        Value::new("azure.tenantId", TENANT_ID),
        Value::new("azure.clientId", CLIENT_ID),
        Value::new(
            "azure.resourceManagerEndpoint",
            format!("https://{ARM_HOST}:{PORT}"),
        ),
        Value::new("azure.resourceManagerAudience", "https://management.azure.com"),
        Value::new("azure.authorityHost", format!("https://{LOGIN_HOST}:{PORT}")),
    ]);
    values
}

/// Installs or upgrades both releases and waits for the operator.
pub(crate) async fn install(cluster: &Cluster, installed: &Installed, progress: &Progress) -> Result<()> {
    let helm = Kubectl::helm_of(cluster);
    let step = progress.start("installing the charts with helm");
    let chart = |name: &str| format!("{WORKSPACE}/charts/{name}");
    let base = |release: &str| -> Vec<String> {
        [
            "upgrade",
            "--install",
            release,
            &chart(release),
            "--namespace",
            OPERATOR_NAMESPACE,
            "--create-namespace",
        ]
        .map(str::to_owned)
        .into()
    };
    helm.run(base(CRDS_RELEASE))
        .await
        .context("failed to install the CRDs")?;
    let mut arguments = base(RELEASE);
    arguments.extend([
        "--set-file".to_owned(),
        format!("caBundle={}", installed.authority().display()),
    ]);
    for Value(path, value) in stand_in_values()
        .into_iter()
        .chain(installed.values.iter().cloned())
    {
        arguments.extend(["--set-json".to_owned(), format!("{path}={value}")]);
    }
    helm.run(arguments)
        .await
        .context("failed to install the operator")?;
    step.done();
    let step = progress.start("waiting for the operator");
    wait_for_deployment(cluster, OPERATOR_NAMESPACE, OPERATOR, progress).await?;
    step.done();
    Ok(())
}
