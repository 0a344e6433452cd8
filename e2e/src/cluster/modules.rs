//! What the local cluster is built of: the Go modules in `e2e/cluster/`, and how `go` is called for each.
//!
//! In: nothing. Out: [`Module`]s. The standard library alone: the launcher of the demo has this file too, and begins with them while
//! cargo is at work on what does the rest.

use std::path::Path;

/// One Go module of `e2e/cluster/` and what to build of it.
#[derive(Debug)]
pub struct Module {
    /// Folder below `e2e/cluster/`.
    pub folder: &'static str,
    pub tags: &'static str,
    /// Linker flags beside `-s -w`: the version that a release build would have.
    pub link: &'static str,
    pub packages: &'static [&'static str],
    /// What `packages` become. One program can get a name of its own; several keep theirs.
    pub programs: &'static [&'static str],
}

pub const KUBERNETES: Module = Module {
    folder: "kubernetes",
    tags: "",
    link: "-X k8s.io/component-base/version.gitVersion=v1.36.3 -X k8s.io/component-base/version.gitMajor=1 \
           -X k8s.io/component-base/version.gitMinor=36 -X k8s.io/component-base/version.gitTreeState=clean",
    packages: &["tool"],
    programs: &[
        "kube-apiserver",
        "kube-controller-manager",
        "kube-scheduler",
        "kubelet",
        "kube-proxy",
        "kubectl",
    ],
};
pub const ETCD: Module = Module {
    folder: "etcd",
    tags: "",
    link: "",
    packages: &["go.etcd.io/etcd/server/v3"],
    programs: &["etcd"],
};
pub const CONTAINERD: Module = Module {
    folder: "containerd",
    tags: "no_btrfs,no_devmapper,no_zfs",
    link: "-X github.com/containerd/containerd/v2/version.Version=v2.4.2",
    packages: &["tool"],
    programs: &["containerd", "containerd-shim-runc-v2", "ctr"],
};
pub const CNI: Module = Module {
    folder: "cni",
    tags: "",
    link: "",
    packages: &["tool"],
    programs: &["ptp", "loopback", "host-local", "portmap"],
};
pub const HELM: Module = Module {
    folder: "helm",
    tags: "",
    link: "-X helm.sh/helm/v3/internal/version.version=v3.22.0",
    packages: &["tool"],
    programs: &["helm"],
};
pub const IMAGES: Module = Module {
    folder: "images",
    tags: "",
    link: "",
    packages: &["./coredns", "./pause", "./probe"],
    programs: &["coredns", "pause", "probe"],
};
/// What a cluster runs, those first that take longest.
pub const COMPONENTS: [&Module; 6] = [&KUBERNETES, &CONTAINERD, &HELM, &IMAGES, &ETCD, &CNI];

/// Arguments of `go` that build a module into `bin`.
pub fn arguments(module: &Module, bin: &Path) -> Vec<String> {
    let output = match module.programs {
        [only] => bin.join(only).display().to_string(),
        _ => format!("{}/", bin.display()),
    };
    let flags = ["build", "-mod=readonly", "-trimpath", "-buildvcs=false"];
    let mut arguments: Vec<String> = flags.map(str::to_owned).into();
    arguments.push(format!("-tags={}", module.tags));
    arguments.push(format!("-ldflags=-s -w {}", module.link));
    arguments.extend(["-o".to_owned(), output]);
    arguments.extend(module.packages.iter().map(|&package| package.to_owned()));
    arguments
}
