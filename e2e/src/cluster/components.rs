//! Step 6 of the local cluster: start its components, each when what it needs is there.
//!
//! In: sandbox, tools, configuration files. Out: running components that log to `log/<name>.log`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::process::Child;

use super::layout::{Folder, NODE_ADDRESS, NODE_NAME, POD_RANGE, SERVICE_RANGE};
use super::sandbox::Sandbox;
use super::tools::Tools;
use super::waiting::wait_until;

/// The issuer of service-account tokens; token verifiers find its keys at `/openid/v1/jwks` of the API server.
pub const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";
const LIMIT: Duration = Duration::from_mins(2);

/// The components that run, in starting order.
#[derive(Debug)]
pub(crate) struct Components<'a> {
    sandbox: &'a Sandbox,
    folder: &'a Folder,
    tools: &'a Tools,
    running: Vec<Component>,
}

#[derive(Debug)]
struct Component {
    name: &'static str,
    process: Child,
}

impl<'a> Components<'a> {
    pub(crate) fn new(sandbox: &'a Sandbox, folder: &'a Folder, tools: &'a Tools) -> Self {
        Self {
            sandbox,
            folder,
            tools,
            running: Vec::new(),
        }
    }

    /// Asks until `ask` answers, and fails at once when a component has ended, with the end of its log.
    pub(crate) async fn wait<T>(
        &mut self,
        what: &str,
        mut ask: impl AsyncFnMut() -> Result<Option<T>>,
    ) -> Result<T> {
        wait_until(LIMIT, what, async || {
            if let Some(ended) = self.ended() {
                bail!(ended);
            }
            ask().await
        })
        .await
    }

    /// What a component that has ended said last.
    pub(crate) fn ended(&mut self) -> Option<String> {
        let logs = self.folder.logs();
        self.running.iter_mut().find_map(|component| {
            let status = component.process.try_wait().ok()??;
            let log = fs::read_to_string(logs.join(format!("{}.log", component.name))).unwrap_or_default();
            let last: Vec<_> = log.lines().rev().take(20).collect();
            let last: Vec<_> = last.into_iter().rev().collect();
            Some(format!(
                "{} ended with {status}; the end of its log:\n{}",
                component.name,
                last.join("\n")
            ))
        })
    }

    pub(crate) fn start_etcd(&mut self) -> Result<()> {
        let program = self.tools.etcd.join("etcd");
        let arguments = [
            "--name=etcd",
            "--data-dir=/var/lib/etcd",
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--initial-advertise-peer-urls=http://127.0.0.1:2380",
            "--initial-cluster=etcd=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
            // One member needs no patience with others.
            "--heartbeat-interval=50",
            "--election-timeout=250",
            "--log-level=warn",
        ];
        self.start("etcd", &program, arguments.map(str::to_owned).into())
    }

    pub(crate) fn start_api_server(&mut self) -> Result<()> {
        let pki = |file: &str| self.folder.pki(file).display().to_string();
        let arguments = vec![
            format!("--advertise-address={NODE_ADDRESS}"),
            "--secure-port=6443".to_owned(),
            "--etcd-servers=http://127.0.0.1:2379".to_owned(),
            format!("--service-cluster-ip-range={SERVICE_RANGE}"),
            "--authorization-mode=Node,RBAC".to_owned(),
            "--enable-admission-plugins=NodeRestriction".to_owned(),
            "--allow-privileged=true".to_owned(),
            format!("--client-ca-file={}", pki("ca.crt")),
            format!("--tls-cert-file={}", pki("apiserver.crt")),
            format!("--tls-private-key-file={}", pki("apiserver.key")),
            format!("--kubelet-client-certificate={}", pki("kubelet-client.crt")),
            format!("--kubelet-client-key={}", pki("kubelet-client.key")),
            format!("--kubelet-certificate-authority={}", pki("ca.crt")),
            // Else logs and exec look the node's name up in DNS.
            "--kubelet-preferred-address-types=InternalIP".to_owned(),
            format!("--service-account-issuer={ISSUER}"),
            format!("--service-account-jwks-uri={ISSUER}/openid/v1/jwks"),
            format!("--service-account-key-file={}", pki("service-account.pub")),
            format!(
                "--service-account-signing-key-file={}",
                pki("service-account.key")
            ),
            format!(
                "--audit-policy-file={}",
                self.folder.config("audit.yaml").display()
            ),
            "--audit-log-path=/var/log/audit.log".to_owned(),
            "--max-requests-inflight=1000".to_owned(),
            "--max-mutating-requests-inflight=500".to_owned(),
        ];
        self.start(
            "kube-apiserver",
            &self.tools.kubernetes.join("kube-apiserver"),
            arguments,
        )
    }

    pub(crate) fn start_controllers(&mut self) -> Result<()> {
        let kubeconfig = |file: &str| format!("--kubeconfig={}", self.folder.config(file).display());
        let arguments = vec![
            kubeconfig("controller-manager.kubeconfig"),
            format!(
                "--service-account-private-key-file={}",
                self.folder.pki("service-account.key").display()
            ),
            format!("--root-ca-file={}", self.folder.pki("ca.crt").display()),
            format!("--cluster-cidr={POD_RANGE}"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--kube-api-qps=300".to_owned(),
            "--kube-api-burst=600".to_owned(),
            "--concurrent-deployment-syncs=20".to_owned(),
            "--concurrent-replicaset-syncs=20".to_owned(),
        ];
        let scheduler = vec![
            kubeconfig("scheduler.kubeconfig"),
            "--leader-elect=false".to_owned(),
            "--secure-port=0".to_owned(),
            "--kube-api-qps=300".to_owned(),
            "--kube-api-burst=600".to_owned(),
        ];
        self.start(
            "kube-controller-manager",
            &self.tools.kubernetes.join("kube-controller-manager"),
            arguments,
        )?;
        self.start(
            "kube-scheduler",
            &self.tools.kubernetes.join("kube-scheduler"),
            scheduler,
        )
    }

    pub(crate) async fn start_containerd(&mut self) -> Result<()> {
        let config = format!("--config={}", self.folder.config("containerd.toml").display());
        let arguments = vec![config, "--log-level=warn".to_owned()];
        self.start("containerd", &self.tools.containerd.join("containerd"), arguments)?;
        let (sandbox, ctr) = (self.sandbox, self.tools.containerd.join("ctr"));
        self.wait("containerd", async || {
            let status = sandbox.command(&ctr).arg("version").status().await?;
            Ok(status.success().then_some(()))
        })
        .await
    }

    pub(crate) fn start_node(&mut self) -> Result<()> {
        let config = |file: &str| self.folder.config(file).display().to_string();
        let kubelet = vec![
            format!("--config={}", config("kubelet.yaml")),
            format!("--kubeconfig={}", config("kubelet.kubeconfig")),
            format!("--hostname-override={NODE_NAME}"),
            format!("--node-ip={NODE_ADDRESS}"),
        ];
        let proxy = vec![format!("--config={}", config("proxy.yaml"))];
        self.start("kubelet", &self.tools.kubernetes.join("kubelet"), kubelet)?;
        self.start("kube-proxy", &self.tools.kubernetes.join("kube-proxy"), proxy)
    }

    fn start(&mut self, name: &'static str, program: &Path, arguments: Vec<String>) -> Result<()> {
        let path = self.folder.logs().join(format!("{name}.log"));
        let log = File::create(&path).with_context(|| format!("failed to make {}", path.display()))?;
        let mut command = self.sandbox.command(program);
        command
            .args(arguments)
            .stdout(log.try_clone()?)
            .stderr(log)
            .env("PATH", self.search_path()?);
        // A component finds its host name and servers by flags alone; a proxy of the user's would catch their traffic.
        for variable in [
            "HTTP_PROXY",
            "HTTPS_PROXY",
            "ALL_PROXY",
            "http_proxy",
            "https_proxy",
            "all_proxy",
            "KUBECONFIG",
        ] {
            command.env_remove(variable);
        }
        let process = command
            .spawn()
            .with_context(|| format!("failed to start {name}"))?;
        self.running.push(Component { name, process });
        Ok(())
    }

    /// containerd looks its shim up on PATH, kube-proxy `nft`.
    fn search_path(&self) -> Result<std::ffi::OsString> {
        let inherited = std::env::var_os("PATH").unwrap_or_default();
        let folders = std::iter::once(self.tools.containerd.clone())
            .chain(std::env::split_paths(&inherited))
            .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
        Ok(std::env::join_paths(folders)?)
    }
}
