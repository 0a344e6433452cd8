//! Certificates of the stand-in.
//! In: files, or names for which a CA of its own issues one. Out: a TLS configuration, and the CA that clients trust.

use std::sync::Arc;

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::config::Certificate;

/// A TLS configuration and the PEM of the CA behind it.
pub(crate) struct Identity {
    pub(crate) server: Arc<ServerConfig>,
    pub(crate) ca_pem: String,
}

pub(crate) fn load(certificate: &Certificate) -> anyhow::Result<Identity> {
    let (chain, key, ca_pem) = match certificate {
        Certificate::Files { certificate, key, ca } => {
            let read = |path: &std::path::Path| {
                std::fs::read_to_string(path).with_context(|| format!("failed to read {}", path.display()))
            };
            (read(certificate)?, read(key)?, read(ca)?)
        }
        Certificate::SelfMade { names } => issue(names)?,
    };
    let chain = CertificateDer::pem_slice_iter(chain.as_bytes()).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key.as_bytes())?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(chain, key)?;
    server.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Identity {
        server: Arc::new(server),
        ca_pem,
    })
}

/// Certificate chain, key and CA, as PEM. The names `localhost`, 127.0.0.1 and ::1 are always among them.
pub(crate) fn issue(names: &[String]) -> anyhow::Result<(String, String, String)> {
    let ca_key = KeyPair::generate()?;
    let mut ca = CertificateParams::new(Vec::<String>::new())?;
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    ca.key_usages = vec![
        KeyUsagePurpose::KeyCertSign,
        KeyUsagePurpose::CrlSign,
        KeyUsagePurpose::DigitalSignature,
    ];
    ca.distinguished_name
        .push(DnType::CommonName, "mcp-fleet test CA");
    let ca_pem = ca.self_signed(&ca_key)?.pem();
    let issuer = Issuer::new(ca, ca_key);

    let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
    let all: Vec<String> = names.iter().cloned().chain(local).collect();
    let key = KeyPair::generate()?;
    let mut leaf = CertificateParams::new(all)?;
    leaf.distinguished_name.push(
        DnType::CommonName,
        names.first().map_or("localhost", String::as_str),
    );
    leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    leaf.use_authority_key_identifier_extension = true;
    let certificate = leaf.signed_by(&key, &issuer)?;
    Ok((certificate.pem(), key.serialize_pem(), ca_pem))
}
