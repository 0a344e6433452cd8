//! Third step of an installation: a private certificate authority, made for this run, and the stand-in's certificate.
//!
//! In: a folder. Out: `ca.crt`, which clients trust, and the certificate and key that go into the cluster.

use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose,
};

use super::stand_ins::{ARM_HOST, GATEWAY_HOST, LOGIN_HOST};

#[derive(Debug)]
pub(crate) struct Certificates {
    pub(crate) certificate: String,
    pub(crate) key: String,
    pub(crate) authority: String,
}

pub(crate) fn issue(folder: &Path) -> Result<Certificates> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("mcp-fleet local authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let authority = params.self_signed(&key)?.pem();
    let path = folder.join("ca.crt");
    std::fs::write(&path, &authority).with_context(|| format!("failed to write {}", path.display()))?;
    let issuer = Issuer::new(params, key);

    // Local names too: MCP Inspector has no way to map a host name.
    let names = [ARM_HOST, LOGIN_HOST, GATEWAY_HOST, "localhost", "127.0.0.1"].map(str::to_owned);
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = named("mcp-fleet Azure stand-in");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = params
        .signed_by(&key, &issuer)
        .context("failed to sign the stand-in's certificate")?;
    Ok(Certificates {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        authority,
    })
}

fn named(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

#[cfg(test)]
mod tests {
    use super::issue;

    #[test]
    fn the_certificate_is_for_every_name_and_the_authority_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let certificates = issue(folder.path()).unwrap();
        assert!(certificates.certificate.contains("BEGIN CERTIFICATE"));
        assert!(certificates.key.contains("PRIVATE KEY"));
        assert!(
            std::fs::read_to_string(folder.path().join("ca.crt"))
                .unwrap()
                .contains("BEGIN CERTIFICATE")
        );
    }
}
