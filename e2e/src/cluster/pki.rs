//! Step 3 of the local cluster: its certificate authority, keys, certificates and kubeconfigs.
//!
//! In: the cluster's folder and the port that the host reaches the API server by. Out: files below `pki/`, and kubeconfigs.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_RSA_SHA256, RsaKeySize,
};
use serde_json::json;

use super::layout::{API_SERVICE_ADDRESS, CLUSTER_DOMAIN, Folder, From, NODE_ADDRESS, NODE_NAME};

/// The group that the API server lets do everything.
const MASTERS: &str = "system:masters";

/// Writes everything that a component or a person identifies itself with.
pub(crate) fn write(folder: &Folder, host_port: u16) -> Result<()> {
    fs::create_dir_all(folder.pki(""))?;
    let authority = Authority::new()?;
    fs::write(folder.pki("ca.crt"), &authority.certificate)?;

    let domain = format!("kubernetes.default.svc.{CLUSTER_DOMAIN}");
    let names = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        &domain,
        "127.0.0.1",
        API_SERVICE_ADDRESS,
        NODE_ADDRESS,
    ];
    authority
        .issue("kube-apiserver", None, &names)?
        .write(folder, "apiserver")?;
    let node = format!("system:node:{NODE_NAME}");
    authority
        .issue(&node, Some("system:nodes"), &[NODE_NAME, NODE_ADDRESS])?
        .write(folder, "kubelet-server")?;
    authority
        .issue("apiserver-kubelet-client", Some(MASTERS), &[])?
        .write(folder, "kubelet-client")?;

    for (file, user, group) in [
        // The controllers' own roles assume one service account each; one identity for all of them starts faster.
        (
            "controller-manager",
            "system:kube-controller-manager",
            Some(MASTERS),
        ),
        ("scheduler", "system:kube-scheduler", None),
        ("proxy", "system:kube-proxy", None),
        ("kubelet", node.as_str(), Some("system:nodes")),
    ] {
        let identity = authority.issue(user, group, &[])?;
        write_kubeconfig(
            &folder.config(&format!("{file}.kubeconfig")),
            "https://127.0.0.1:6443",
            &authority,
            &identity,
        )?;
    }
    let admin = authority.issue("admin", Some(MASTERS), &[])?;
    for (from, server) in [
        (From::Host, format!("https://127.0.0.1:{host_port}")),
        (From::Inside, "https://127.0.0.1:6443".to_owned()),
        (From::Outside, format!("https://{NODE_ADDRESS}:6443")),
    ] {
        write_kubeconfig(&folder.kubeconfig(from), &server, &authority, &admin)?;
    }

    // RSA, because managed clusters sign with it and token verifiers elsewhere often know nothing else.
    let signer = KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?;
    write_secret(&folder.pki("service-account.key"), &signer.serialize_pem())?;
    fs::write(folder.pki("service-account.pub"), signer.public_key_pem())?;
    Ok(())
}

struct Authority {
    certificate: String,
    issuer: Issuer<'static, KeyPair>,
}

struct Identity {
    certificate: String,
    key: String,
}

impl Authority {
    fn new() -> Result<Self> {
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(DnType::CommonName, "mcp-fleet local cluster");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
            KeyUsagePurpose::DigitalSignature,
        ];
        let key = KeyPair::generate()?;
        let certificate = params.self_signed(&key)?.pem();
        Ok(Self {
            certificate,
            issuer: Issuer::new(params, key),
        })
    }

    /// For Kubernetes the common name is the user and the organization the group.
    fn issue(&self, user: &str, group: Option<&str>, names: &[&str]) -> Result<Identity> {
        let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, group);
        }
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ClientAuth,
            ExtendedKeyUsagePurpose::ServerAuth,
        ];
        let key = KeyPair::generate()?;
        let certificate = params
            .signed_by(&key, &self.issuer)
            .with_context(|| format!("failed to sign for {user}"))?;
        Ok(Identity {
            certificate: certificate.pem(),
            key: key.serialize_pem(),
        })
    }
}

impl Identity {
    fn write(&self, folder: &Folder, name: &str) -> Result<()> {
        fs::write(folder.pki(&format!("{name}.crt")), &self.certificate)?;
        write_secret(&folder.pki(&format!("{name}.key")), &self.key)
    }
}

fn write_kubeconfig(path: &Path, server: &str, authority: &Authority, identity: &Identity) -> Result<()> {
    let name = "mcp-fleet-local";
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": name,
        "clusters": [{"name": name, "cluster": {
            "server": server,
            "certificate-authority-data": STANDARD.encode(&authority.certificate),
        }}],
        "users": [{"name": name, "user": {
            "client-certificate-data": STANDARD.encode(&identity.certificate),
            "client-key-data": STANDARD.encode(&identity.key),
        }}],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
    });
    write_secret(path, &serde_yaml::to_string(&config)?)
}

fn write_secret(path: &Path, text: &str) -> Result<()> {
    use std::io::Write;
    use std::os::unix::fs::OpenOptionsExt;
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path);
    file.and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("failed to write {}", path.display()))
}
