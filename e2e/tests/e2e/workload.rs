//! What stands in the cluster (what must be seen 1): pods, Service, printer columns, images.

use std::sync::Arc;

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::Api;
use kube::api::ListParams;
use mcp_fleet_crds::McpServer;

use crate::Test;
use crate::place::gateway_url;
use crate::world::World;

pub fn tests() -> Vec<Test> {
    vec![
        Test::new(
            "workload::two_pods_run_behind_a_load_balancer_and_kubectl_shows_it_all",
            shown,
        ),
        Test::new(
            "workload::images_are_static_and_bring_certificates",
            static_images,
        ),
    ]
}

async fn shown(world: Arc<World>) -> Result<()> {
    let tools = "tools";
    let pods = Api::<Pod>::namespaced(world.client(), tools)
        .list(&ListParams::default().labels("mcpfleet.dev/server=weather"))
        .await?;
    ensure!(pods.items.len() == 2, "two pods, not {}", pods.items.len());
    for pod in &pods.items {
        let status = pod.status.as_ref().context("a status")?;
        ensure!(status.phase.as_deref() == Some("Running"), "every pod is Running");
        ensure!(
            status
                .container_statuses
                .iter()
                .flatten()
                .all(|container| container.ready),
            "every container is ready"
        );
        ensure!(
            pod.spec
                .as_ref()
                .is_some_and(|spec| spec.automount_service_account_token == Some(false)),
            "no token in the pod"
        );
    }
    let service = Api::<Service>::namespaced(world.client(), tools)
        .get("weather")
        .await?;
    ensure!(
        service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer"),
        "a load balancer"
    );
    let ingress = service
        .status
        .and_then(|status| status.load_balancer?.ingress)
        .unwrap_or_default();
    ensure!(
        ingress.iter().any(|ingress| ingress.ip.is_some()),
        "with an address"
    );

    let server = Api::<McpServer>::namespaced(world.client(), tools)
        .get("weather")
        .await?;
    let url = gateway_url(&server)?;
    let table = world.kubectl().run(["get", "mcps", "-n", tools]).await?;
    let mut lines = table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    ensure!(
        lines.next()
            == Some(vec![
                "NAME", "READY", "REPLICAS", "GATEWAY", "TOOLS", "URL", "AGE"
            ]),
        "{table}"
    );
    let row = lines.next().context("a row")?;
    ensure!(
        row[..6] == ["weather", "True", "2/2", "contoso", "2", &url],
        "{table}"
    );
    let gateways = world.kubectl().run(["get", "mcpgw", "-o", "wide"]).await?;
    ensure!(
        gateways
            .lines()
            .nth(1)
            .is_some_and(|row| row.starts_with("contoso") && row.contains("True")),
        "{gateways}"
    );
    let accesses = world
        .kubectl()
        .run(["get", "mcpa", "-n", tools, "-o", "wide"])
        .await?;
    ensure!(
        accesses
            .lines()
            .nth(1)
            .is_some_and(|row| row.contains("True") && row.contains("agents-mcp")),
        "{accesses}"
    );
    Ok(())
}

/// Bytes. The image that is delivered has more of its code inlined: it is about 1 MB larger, and must be below 20 MB.
const LARGEST_WEATHER_IMAGE: u64 = 17_000_000;

/// A static program has no interpreter (ELF program header PT_INTERP, type 3).
async fn static_images(world: Arc<World>) -> Result<()> {
    use mcp_fleet_e2e::image::write_image;
    for spec in world.installed.images() {
        let folder = tempfile::tempdir()?;
        let archive = folder.path().join("image.tar");
        write_image(&spec, &archive)?;
        let bytes = archive.metadata()?.len();
        if spec.reference().contains("mcp-weather") {
            ensure!(
                bytes < LARGEST_WEATHER_IMAGE,
                "{} takes {bytes} bytes",
                spec.reference()
            );
        }
        let image = Image::read(&archive)?;
        let name = spec.reference();
        ensure!(image.user == "65532", "{name} runs as {}", image.user);
        let certificates = image
            .file("etc/ssl/certs/ca-certificates.crt")
            .context("no certificates")?;
        ensure!(
            String::from_utf8_lossy(certificates).contains("BEGIN CERTIFICATE"),
            "{name} brings certificates"
        );
        let program = image
            .file(spec.entrypoint[0].trim_start_matches('/'))
            .context("no program")?;
        ensure!(program.starts_with(b"\x7fELF"), "{name} is a program");
        ensure!(
            !has_interpreter(program).context("a short ELF file")?,
            "{name} is linked statically"
        );
    }
    Ok(())
}

fn has_interpreter(elf: &[u8]) -> Option<bool> {
    let number = |at: usize, size: usize| {
        let bytes = elf.get(at..at + size)?;
        Some(
            bytes
                .iter()
                .rev()
                .fold(0_usize, |number, byte| (number << 8) | usize::from(*byte)),
        )
    };
    let (start, size, count) = (number(32, 8)?, number(54, 2)?, number(56, 2)?);
    let mut types = (0..count).map(|index| number(start + index * size, 4));
    Some(types.any(|kind| kind == Some(3)))
}

/// An image archive, read.
struct Image {
    user: String,
    files: Vec<(String, Vec<u8>)>,
}

impl Image {
    fn read(path: &std::path::Path) -> Result<Self> {
        let outer = entries(&std::fs::read(path)?)?;
        let find = |name: &str| {
            outer
                .iter()
                .find(|(path, _)| path == name)
                .map(|(_, bytes)| bytes)
                .with_context(|| format!("no {name}"))
        };
        let blob = |descriptor: &serde_json::Value| {
            let digest = descriptor["digest"]
                .as_str()
                .unwrap_or_default()
                .replace(':', "/");
            find(&format!("blobs/{digest}"))
        };
        let index: serde_json::Value = serde_json::from_slice(find("index.json")?)?;
        let manifest: serde_json::Value = serde_json::from_slice(blob(&index["manifests"][0])?)?;
        let config: serde_json::Value = serde_json::from_slice(blob(&manifest["config"])?)?;
        let user = config["config"]["User"].as_str().unwrap_or_default().to_owned();
        Ok(Self {
            user,
            files: entries(blob(&manifest["layers"][0])?)?,
        })
    }

    fn file(&self, path: &str) -> Option<&[u8]> {
        self.files
            .iter()
            .find(|(name, _)| name == path)
            .map(|(_, bytes)| bytes.as_slice())
    }
}

fn entries(archive: &[u8]) -> Result<Vec<(String, Vec<u8>)>> {
    use std::io::Read;
    let mut archive = tar::Archive::new(archive);
    archive
        .entries()?
        .map(|entry| {
            let mut entry = entry?;
            let path = entry.path()?.display().to_string();
            let mut bytes = Vec::new();
            entry.read_to_end(&mut bytes)?;
            Ok((path, bytes))
        })
        .collect()
}
