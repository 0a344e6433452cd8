//! The local cluster keeps its promises: workloads, DNS, load balancers and forwarding work, and nothing is left of it afterwards.
//!
//! In: a machine with root. Out: one result per promise; without root they are skipped, saying so.

use std::io::{BufRead, BufReader, Read};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Node, Service};
use kube::Api;
use kube::api::{ListParams, Patch, PatchParams, PostParams};
use libtest_mimic::{Arguments, Trial};
use mcp_fleet_e2e::cluster::load_balancer::ADDRESS_ANNOTATION;
use mcp_fleet_e2e::cluster::{Cluster, Progress, Side, tools};
use mcp_fleet_e2e::image::{ImageFile, ImageSpec, write_image};
use serde_json::json;

const LIMIT: Duration = Duration::from_mins(1);
const FOREIGN: &str = "MCP_FLEET_KUBECONFIG";

fn main() -> ExitCode {
    let root = nix::unistd::geteuid().is_root();
    let trials = [
        (
            "everything_in_the_cluster_reaches_everything_else",
            works as fn() -> Result<()>,
        ),
        ("nothing_is_left_when_the_parent_is_killed", parent_killed),
        (
            "what_a_killed_keeper_left_is_swept_by_the_next_start",
            keeper_killed,
        ),
    ];
    let trials = trials.map(|(name, test)| {
        let run = move || test().map_err(|error| format!("{error:?}").into());
        Trial::test(name, run).with_ignored_flag(!root)
    });
    if !root {
        eprintln!("skipped: the local cluster needs root");
    }
    libtest_mimic::run(&Arguments::from_args(), trials.into()).exit_code()
}

fn works() -> Result<()> {
    if std::env::var_os(FOREIGN).is_some() {
        bail!("{FOREIGN} is set: these tests are of the local cluster");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let progress = Progress::new();
        let cluster = Cluster::start(&progress).await?;
        let folder = cluster.kubeconfig().parent().context("a folder")?.to_owned();
        let result = use_it(&cluster, &progress).await;
        cluster.stop().await?;
        result?;
        ensure!(leftovers(&folder).is_empty(), "left: {:?}", leftovers(&folder));
        Ok(())
    })
}

/// The cluster, and the program that tests its network from every side.
struct World<'a> {
    cluster: &'a Cluster,
    probe: PathBuf,
}

async fn use_it(cluster: &Cluster, progress: &Progress) -> Result<()> {
    ensure!(cluster.is_local());
    let nodes = Api::<Node>::all(cluster.client())
        .list(&ListParams::default())
        .await?;
    ensure!(nodes.items.len() == 1, "one node, not {}", nodes.items.len());

    let probe = tools::tool("probe", progress).await?;
    let world = World { cluster, probe };
    world.load_probe().await?;
    let step = progress.start("a pod of a local image");
    deploy(cluster).await?;
    step.done();
    let address = load_balancer_address(cluster, None).await?;
    let url = format!("http://{address}/");
    world.source_ranges_are_enforced(&url).await?;
    world.pods_reach_services(&url).await?;
    world.names_lead_outside().await?;
    world.an_address_moves(&url).await?;
    world.the_host_gets_in().await
}

impl World<'_> {
    async fn load_probe(&self) -> Result<()> {
        let scratch = tempfile::tempdir()?;
        let archive = scratch.path().join("probe.tar");
        let spec = ImageSpec {
            name: "local/probe".into(),
            tag: "1".into(),
            files: vec![ImageFile::program("/probe", &self.probe)],
            entrypoint: vec!["/probe".into()],
            ..ImageSpec::default()
        };
        write_image(&spec, &archive)?;
        self.cluster.load_image(&archive).await
    }

    async fn outside(&self, from: &str, url: &str) -> Result<String> {
        run(self
            .cluster
            .outside_command(&self.probe)?
            .args(["get", "-from", from, url]))
        .await
    }

    async fn on_node(&self, url: &str) -> Result<String> {
        run(self.cluster.command(&self.probe)?.args(["get", url])).await
    }

    async fn in_pod(&self, url: &str) -> Result<String> {
        let mut kubectl = tokio::process::Command::new(self.cluster.kubectl());
        kubectl.arg("--kubeconfig").arg(self.cluster.kubeconfig());
        run(kubectl.args(["exec", "deployment/probe", "--", "/probe", "get", url])).await
    }

    async fn source_ranges_are_enforced(&self, url: &str) -> Result<()> {
        until("an answer to the first source", async || {
            self.outside("192.0.2.1", url).await
        })
        .await?;
        until("an answer to the second source", async || {
            self.outside("198.51.100.7", url).await
        })
        .await?;

        // Under either traffic policy source ranges decide who may call; under the local one the pod also sees who calls.
        let only = ["198.51.100.7/32"];
        for policy in ["Cluster", "Local"] {
            let spec = json!({"externalTrafficPolicy": policy, "loadBalancerSourceRanges": only});
            patch_service(self.cluster, spec).await?;
            until("the other source to be refused", async || {
                match self.outside("192.0.2.1", url).await {
                    Ok(answer) => bail!("answered {answer:?}"),
                    Err(_) => Ok(()),
                }
            })
            .await?;
            until("the allowed source", async || {
                self.outside("198.51.100.7", url).await
            })
            .await?;
        }
        let seen = self.outside("198.51.100.7", url).await?;
        ensure!(seen.trim() == "198.51.100.7", "the pod sees its caller: {seen:?}");
        let all = json!({"externalTrafficPolicy": "Cluster", "loadBalancerSourceRanges": null});
        patch_service(self.cluster, all).await
    }

    async fn pods_reach_services(&self, load_balancer: &str) -> Result<()> {
        for (what, url) in [
            ("its short name", "http://probe/"),
            ("its full name", "http://probe.default.svc.cluster.local/"),
            ("its load balancer", load_balancer),
        ] {
            until(&format!("a pod to reach a Service by {what}"), async || {
                self.in_pod(url).await
            })
            .await?;
        }
        self.on_node("http://probe.default.svc.cluster.local/")
            .await
            .context("cluster DNS on the node")?;
        let unknown = self
            .in_pod("http://nowhere.example.com/")
            .await
            .err()
            .context("an unknown name resolved")?;
        ensure!(
            format!("{unknown:#}").contains("no such host"),
            "unknown names do not exist: {unknown:#}"
        );
        Ok(())
    }

    /// A server of this process, outside, by a name: pods and commands find it, and it sees the pod's address.
    async fn names_lead_outside(&self) -> Result<()> {
        let (port, server) = outside_server(self.cluster)?;
        self.cluster
            .map_host("gateway.mcp-fleet.test", Ipv4Addr::new(198, 51, 100, 7))?;
        let url = format!("http://gateway.mcp-fleet.test:{port}/");
        let seen = until("a pod to reach the outside by name", async || {
            self.in_pod(&url).await
        })
        .await?;
        ensure!(seen.starts_with("10.244."), "pods are not masqueraded: {seen:?}");
        self.outside("192.0.2.1", &url)
            .await
            .context("the same name outside")?;
        self.on_node(&url).await.context("the same name on the node")?;
        server.abort();
        Ok(())
    }

    async fn an_address_moves(&self, old: &str) -> Result<()> {
        let address = "203.0.113.200";
        let services: Api<Service> = Api::default_namespaced(self.cluster.client());
        let annotate = json!({"metadata": {"annotations": {ADDRESS_ANNOTATION: address}}});
        services
            .patch("probe", &PatchParams::default(), &Patch::Merge(annotate))
            .await?;
        load_balancer_address(self.cluster, Some(address)).await?;
        let url = format!("http://{address}/");
        until("the new address to answer", async || {
            self.outside("192.0.2.1", &url).await
        })
        .await?;
        ensure!(
            self.outside("192.0.2.1", old).await.is_err(),
            "the old address answers still"
        );
        Ok(())
    }

    async fn the_host_gets_in(&self) -> Result<()> {
        let forwarded = self.cluster.forward("default", "probe", 80, 0).await?;
        let url = format!("http://{forwarded}/");
        let mut get = tokio::process::Command::new(&self.probe);
        let answer = run(get.args(["get", &url])).await.context("the forwarded port")?;
        ensure!(
            !answer.starts_with("127."),
            "the pod is called from the node: {answer:?}"
        );

        let foreign = Cluster::attach(self.cluster.kubeconfig(), &Progress::new()).await?;
        ensure!(!foreign.is_local(), "an attached cluster is another's");
        let forwarded = foreign.forward("default", "probe", 80, 0).await?;
        let mut get = tokio::process::Command::new(&self.probe);
        let url = format!("http://{forwarded}/");
        run(get.args(["get", &url]))
            .await
            .context("the port forwarded through the API server")?;

        let audit = std::fs::read_to_string(self.cluster.audit_log()?)?;
        ensure!(
            audit.contains(r#""name":"probe""#),
            "the audit log has no write to probe"
        );
        let helm = run(self
            .cluster
            .command(self.cluster.helm())?
            .args(["list", "--all-namespaces"]))
        .await?;
        ensure!(helm.contains("NAMESPACE"), "helm answers: {helm:?}");
        Ok(())
    }
}

async fn deploy(cluster: &Cluster) -> Result<()> {
    let labels = json!({"app": "probe"});
    let deployment = json!({
        "metadata": {"name": "probe"},
        "spec": {"selector": {"matchLabels": labels}, "template": {
            "metadata": {"labels": labels},
            "spec": {
                "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
                "terminationGracePeriodSeconds": 0,
                "containers": [{
                    "name": "probe", "image": "local/probe:1", "imagePullPolicy": "Never", "args": ["serve", ":8080"],
                    "readinessProbe": {"tcpSocket": {"port": 8080}, "periodSeconds": 1},
                    "securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}},
                }],
            },
        }},
    });
    let service = json!({
        "metadata": {"name": "probe"},
        "spec": {"type": "LoadBalancer", "selector": labels, "ports": [{"port": 80, "targetPort": 8080}]},
    });
    let deployments: Api<Deployment> = Api::default_namespaced(cluster.client());
    deployments
        .create(&PostParams::default(), &serde_json::from_value(deployment)?)
        .await?;
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    services
        .create(&PostParams::default(), &serde_json::from_value(service)?)
        .await?;
    until("the pod to be ready", async || {
        let status = deployments.get("probe").await?.status.unwrap_or_default();
        status
            .ready_replicas
            .filter(|&ready| ready == 1)
            .context("no pod is ready")
    })
    .await
    .map(drop)
}

async fn load_balancer_address(cluster: &Cluster, wanted: Option<&str>) -> Result<String> {
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    until("an address in the Service's status", async || {
        let status = services.get("probe").await?.status;
        let ingress = status
            .and_then(|status| status.load_balancer?.ingress)
            .unwrap_or_default();
        let address = ingress.into_iter().find_map(|ingress| ingress.ip);
        address
            .filter(|address| wanted.is_none_or(|wanted| wanted == address))
            .context("no such address")
    })
    .await
}

async fn patch_service(cluster: &Cluster, spec: serde_json::Value) -> Result<()> {
    let services: Api<Service> = Api::default_namespaced(cluster.client());
    services
        .patch(
            "probe",
            &PatchParams::default(),
            &Patch::Merge(json!({"spec": spec})),
        )
        .await?;
    Ok(())
}

/// A server on the outside network that answers with the caller's address; its port.
fn outside_server(cluster: &Cluster) -> Result<(u16, tokio::task::JoinHandle<()>)> {
    let outside = cluster.runtime(Side::Outside)?;
    let (send, receive) = std::sync::mpsc::channel();
    let server = outside.spawn(async move {
        let Ok(listener) = tokio::net::TcpListener::bind("0.0.0.0:0").await else {
            return;
        };
        let _ = send.send(listener.local_addr().map(|address| address.port()));
        while let Ok((mut connection, peer)) = listener.accept().await {
            let body = peer.ip().to_string();
            let answer = format!(
                "HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let mut request = [0; 1024];
            let _ = tokio::io::AsyncReadExt::read(&mut connection, &mut request).await;
            let _ = tokio::io::AsyncWriteExt::write_all(&mut connection, answer.as_bytes()).await;
        }
    });
    Ok((receive.recv_timeout(LIMIT)??, server))
}

async fn run(command: &mut tokio::process::Command) -> Result<String> {
    let output = command.stdin(Stdio::null()).output().await?;
    ensure!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8(output.stdout)?)
}

async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + LIMIT;
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if Instant::now() > end => return Err(error.context(format!("failed to see {what}"))),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// A cluster of another process; its kubeconfig is where its folder is.
struct Started {
    parent: std::process::Child,
    folder: PathBuf,
    /// Kept open: a parent that cannot print would end by itself.
    _output: BufReader<ChildStdout>,
}

fn start_elsewhere() -> Result<Started> {
    let mut parent = Command::new(env!("CARGO_BIN_EXE_mcp-fleet-e2e"))
        .args(["cluster", "up"])
        .env_remove(FOREIGN)
        .stdout(Stdio::piped())
        .spawn()?;
    let output = parent.stdout.take().context("output")?;
    let mut output = BufReader::new(output);
    let kubeconfig = output
        .by_ref()
        .lines()
        .find_map(|line| Some(line.ok()?.split_once("KUBECONFIG=")?.1.to_owned()));
    let Some(kubeconfig) = kubeconfig else {
        bail!("the cluster did not start: {:?}", parent.wait()?);
    };
    let folder = Path::new(&kubeconfig).parent().context("a folder")?.to_owned();
    Ok(Started {
        parent,
        folder,
        _output: output,
    })
}

fn parent_killed() -> Result<()> {
    let mut started = start_elsewhere()?;
    ensure!(
        !leftovers(&started.folder).is_empty(),
        "a running cluster leaves traces, or this test sees nothing"
    );
    started.parent.kill()?;
    started.parent.wait()?;
    until_clean(&started.folder)
}

fn keeper_killed() -> Result<()> {
    let started = start_elsewhere()?;
    let keeper = child_of(started.parent.id()).context("the keeper")?;
    nix::sys::signal::kill(
        nix::unistd::Pid::from_raw(keeper),
        nix::sys::signal::Signal::SIGKILL,
    )?;
    let end = Instant::now() + LIMIT;
    while !processes(&started.folder).is_empty() {
        ensure!(
            Instant::now() < end,
            "processes outlive their keeper: {:?}",
            processes(&started.folder)
        );
        std::thread::sleep(Duration::from_millis(100));
    }
    ensure!(started.folder.exists(), "the folder is left for the sweep");
    let next = start_elsewhere()?;
    let left = leftovers(&started.folder);
    for mut parent in [started.parent, next.parent] {
        nix::sys::signal::kill(
            nix::unistd::Pid::from_raw(i32::try_from(parent.id())?),
            nix::sys::signal::Signal::SIGINT,
        )?;
        parent.wait()?;
    }
    ensure!(left.is_empty(), "left: {left:?}");
    until_clean(&next.folder)
}

fn child_of(parent: u32) -> Option<i32> {
    let mut processes = std::fs::read_dir("/proc")
        .ok()?
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    processes.find(|pid| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        status.lines().any(|line| line == format!("PPid:\t{parent}"))
    })
}

fn until_clean(folder: &Path) -> Result<()> {
    let end = Instant::now() + LIMIT;
    loop {
        match leftovers(folder) {
            left if left.is_empty() => return Ok(()),
            left if Instant::now() > end => bail!("left: {left:?}"),
            _ => std::thread::sleep(Duration::from_millis(100)),
        }
    }
}

/// Everything that a cluster could leave: processes, folder, lock, mounts, control groups.
fn leftovers(folder: &Path) -> Vec<String> {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let mut left = processes(folder);
    let files = [folder.to_owned(), folder.with_extension("lock")]
        .into_iter()
        .filter(|path| path.exists());
    left.extend(files.map(|path| path.display().to_string()));
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    left.extend(
        mounts
            .lines()
            .filter(|line| line.contains(&name))
            .map(str::to_owned),
    );
    let hierarchies = std::fs::read_dir("/sys/fs/cgroup")
        .into_iter()
        .flatten()
        .filter_map(|entry| Some(entry.ok()?.path()));
    let groups = hierarchies
        .chain([Path::new("/sys/fs/cgroup").to_owned()])
        .map(|path| path.join(&name));
    left.extend(
        groups
            .filter(|path| path.exists())
            .map(|path| path.display().to_string()),
    );
    left
}

/// Processes whose command line or control group names the cluster, and those in its pods' namespaces by that.
fn processes(folder: &Path) -> Vec<String> {
    let name = folder
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let read = |pid: i32, file: &str| {
        let mut text = Vec::new();
        let _ = std::fs::File::open(format!("/proc/{pid}/{file}"))
            .and_then(|mut file| file.read_to_end(&mut text));
        String::from_utf8_lossy(&text).replace('\0', " ")
    };
    let pids = std::fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|&pid: &i32| {
        [read(pid, "cmdline"), read(pid, "cgroup")]
            .iter()
            .any(|text| text.contains(&name))
    })
    .map(|pid| format!("process {pid}: {}", read(pid, "cmdline")))
    .collect()
}
