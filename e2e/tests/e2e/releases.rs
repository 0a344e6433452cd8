//! Two releases in one cluster: the second one sees the first, says so and waits, instead of fighting.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Pod};
use kube::api::{DeleteParams, ListParams, LogParams};
use kube::{Api, ResourceExt as _};
use mcp_fleet_e2e::install::{Kubectl, OPERATOR_NAMESPACE, RELEASE};

use crate::Test;
use crate::world::{World, gone, until};

const CHART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/mcp-fleet");
const SECOND: &str = "second";

pub fn tests() -> Vec<Test> {
    vec![Test::new(
        "releases::a_second_release_sees_the_first_and_waits",
        waits,
    )]
}

async fn waits(world: Arc<World>) -> Result<()> {
    let helm = Kubectl::helm_of(&world.cluster);
    let namespaces: Api<Namespace> = Api::all(world.client());
    let first = [
        "get",
        "values",
        RELEASE,
        "--namespace",
        OPERATOR_NAMESPACE,
        "-o",
        "json",
    ];
    let values = helm.run(first).await?;
    let install = [
        "install",
        SECOND,
        CHART,
        "--namespace",
        SECOND,
        "--create-namespace",
        "--values",
        "-",
    ];
    helm.run_with(install, &values).await?;
    let result = look(&world).await;
    helm.run(["uninstall", SECOND, "--namespace", SECOND, "--wait"])
        .await?;
    namespaces
        .delete(SECOND, &DeleteParams::default())
        .await
        .map(drop)
        .or_else(gone)?;
    result
}

async fn look(world: &World) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(world.client(), SECOND);
    let name = until("the second release's pod to say what it waits for", async || {
        let Some(pod) = pods.list(&ListParams::default()).await?.items.pop() else {
            return Ok(Err("no pod yet".to_owned()));
        };
        let name = pod.name_any();
        let log = pods.logs(&name, &LogParams::default()).await.unwrap_or_default();
        let told = log.contains(&format!("release {OPERATOR_NAMESPACE}/{RELEASE}"));
        Ok(if told { Ok(name) } else { Err(log) })
    })
    .await?;
    let status = pods.get(&name).await?.status.context("a status")?;
    let ready = status
        .conditions
        .iter()
        .flatten()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True");
    ensure!(!ready, "what waits for another release is not ready");
    let lease = Api::<Lease>::namespaced(world.client(), "kube-system")
        .get("mcp-fleet-operator")
        .await?;
    let holder = lease
        .spec
        .and_then(|spec| spec.holder_identity)
        .context("a holder")?;
    ensure!(
        holder.starts_with(&format!("{OPERATOR_NAMESPACE}/")),
        "the first release keeps the lease, not {holder}"
    );
    Ok(())
}
