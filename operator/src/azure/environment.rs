//! The operator's own place in Azure: what serves gateways that say nothing about it. In: [`Args`]; out:
//! [`AzureEnvironment`], checked.

use std::path::PathBuf;

use url::Url;

use crate::args::Args;
use crate::azure::apim;

const PUBLIC_ENDPOINT: &str = "https://management.azure.com";
const PUBLIC_AUTHORITY: &str = "https://login.microsoftonline.com";

/// Identity, cloud and trust that a gateway need not name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AzureEnvironment {
    pub client_id: Option<String>,
    pub tenant_id: Option<String>,
    pub token_file: Option<PathBuf>,
    /// For gateways without `cloud` and `endpoints`; public Azure when absent.
    pub cloud: Option<apim::Cloud>,
    /// Certificates (PEM) that are trusted beside the public ones and a gateway's own.
    pub extra_authorities: Option<String>,
}

/// The environment is no good; the operator does not start.
#[derive(Debug, thiserror::Error)]
pub enum EnvironmentError {
    #[error("{variable} is not an https URL: {value:?}")]
    Url { variable: &'static str, value: String },
    #[error("failed to read EXTRA_CA_FILE {}: {source}", path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("EXTRA_CA_FILE {} holds no certificate: {message}", path.display())]
    NoCertificate { path: PathBuf, message: String },
}

impl AzureEnvironment {
    /// Reads what the arguments name. A certificate file that cannot be used is an error now, not at the first call.
    pub fn read(args: &Args) -> Result<Self, EnvironmentError> {
        Ok(Self {
            client_id: args.azure_client_id.clone(),
            tenant_id: args.azure_tenant_id.clone(),
            token_file: args.azure_federated_token_file.clone(),
            cloud: cloud(args)?,
            extra_authorities: given(args.extra_ca_file.as_ref())
                .map(read_certificates)
                .transpose()?,
        })
    }

    /// The certificates to trust for a gateway, its own ones included.
    pub fn authorities(&self, gateway: Option<&str>) -> Option<String> {
        let all: Vec<_> = [self.extra_authorities.as_deref(), gateway]
            .into_iter()
            .flatten()
            .collect();
        (!all.is_empty()).then(|| all.join("\n"))
    }
}

/// An environment variable that is set to nothing counts as absent.
fn given(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn cloud(args: &Args) -> Result<Option<apim::Cloud>, EnvironmentError> {
    let url = |variable, value: &Option<String>| match value.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => match Url::parse(text) {
            Ok(url) if url.scheme() == "https" => Ok(Some(url)),
            _ => Err(EnvironmentError::Url {
                variable,
                value: text.to_owned(),
            }),
        },
        None => Ok(None),
    };
    let endpoint = url(
        "AZURE_RESOURCE_MANAGER_ENDPOINT",
        &args.azure_resource_manager_endpoint,
    )?;
    let authority = url("AZURE_AUTHORITY_HOST", &args.azure_authority_host)?;
    let audience = args
        .azure_resource_manager_audience
        .clone()
        .filter(|text| !text.is_empty());
    if endpoint.is_none() && audience.is_none() {
        // Azure's webhook sets the authority of the cluster's cloud in every pod, and that alone.
        match authority.as_ref().and_then(Url::host_str) {
            None | Some("login.microsoftonline.com") => return Ok(None),
            Some("login.microsoftonline.us") => return Ok(Some(apim::Cloud::UsGovernment)),
            Some("login.chinacloudapi.cn" | "login.partner.microsoftonline.cn") => {
                return Ok(Some(apim::Cloud::China));
            }
            Some(_) => {}
        }
    }
    let public = |text: &str| {
        Url::parse(text).map_err(|_| EnvironmentError::Url {
            variable: "built-in address",
            value: text.to_owned(),
        })
    };
    // As it was written: Entra takes audiences with and without a slash at the end for different ones.
    let written = args
        .azure_resource_manager_endpoint
        .clone()
        .filter(|text| !text.is_empty());
    Ok(Some(apim::Cloud::Custom {
        endpoint: endpoint.map_or_else(|| public(PUBLIC_ENDPOINT), Ok)?,
        authority: authority.map_or_else(|| public(PUBLIC_AUTHORITY), Ok)?,
        audience: audience.or(written).unwrap_or_else(|| PUBLIC_ENDPOINT.to_owned()),
    }))
}

fn read_certificates(path: &PathBuf) -> Result<String, EnvironmentError> {
    let text = std::fs::read_to_string(path).map_err(|source| EnvironmentError::File {
        path: path.clone(),
        source,
    })?;
    let bad = |message| EnvironmentError::NoCertificate {
        path: path.clone(),
        message,
    };
    match reqwest::Certificate::from_pem_bundle(text.as_bytes()) {
        Ok(certificates) if certificates.is_empty() => Err(bad("no PEM block CERTIFICATE".to_owned())),
        Ok(_) => Ok(text),
        Err(error) => Err(bad(error.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;

    fn read(flags: &[&str]) -> Result<AzureEnvironment, EnvironmentError> {
        let args = ["operator"].iter().chain(flags);
        AzureEnvironment::read(&Args::try_parse_from(args).unwrap())
    }

    #[test]
    fn the_cloud_follows_what_the_pod_was_given() {
        let table: [(&[&str], Option<apim::Cloud>); 4] = [
            (&[], None),
            (
                &["--azure-authority-host=https://login.microsoftonline.com/"],
                None,
            ),
            (
                &["--azure-authority-host=https://login.microsoftonline.us/"],
                Some(apim::Cloud::UsGovernment),
            ),
            (
                &[
                    "--azure-resource-manager-endpoint=https://arm.example:8443",
                    "--azure-authority-host=https://login.example",
                ],
                Some(apim::Cloud::Custom {
                    endpoint: Url::parse("https://arm.example:8443").unwrap(),
                    authority: Url::parse("https://login.example").unwrap(),
                    audience: "https://arm.example:8443".to_owned(),
                }),
            ),
        ];
        for (flags, cloud) in table {
            assert_eq!(read(flags).unwrap().cloud, cloud, "{flags:?}");
        }
    }

    #[test]
    fn an_audience_of_its_own_is_kept_as_written() {
        let environment = read(&[
            "--azure-resource-manager-endpoint=https://arm.example",
            "--azure-resource-manager-audience=https://management.azure.com",
        ]);
        let Some(apim::Cloud::Custom {
            audience, authority, ..
        }) = environment.unwrap().cloud
        else {
            panic!("not custom")
        };
        assert_eq!(audience, "https://management.azure.com");
        assert_eq!(authority.as_str(), "https://login.microsoftonline.com/");
    }

    #[test]
    fn what_cannot_be_used_stops_the_start_and_is_named() {
        for (flag, variable) in [
            (
                "--azure-resource-manager-endpoint=http://arm.example",
                "AZURE_RESOURCE_MANAGER_ENDPOINT",
            ),
            ("--azure-authority-host=login", "AZURE_AUTHORITY_HOST"),
            ("--extra-ca-file=/no/such/file", "/no/such/file"),
            ("--extra-ca-file=/dev/null", "holds no certificate"),
        ] {
            let error = read(&[flag]).unwrap_err().to_string();
            assert!(error.contains(variable), "{error}");
        }
    }

    #[test]
    fn a_gateways_own_certificates_come_beside_the_extra_ones() {
        let environment = AzureEnvironment {
            extra_authorities: Some("A".to_owned()),
            ..AzureEnvironment::default()
        };
        assert_eq!(environment.authorities(None).as_deref(), Some("A"));
        assert_eq!(environment.authorities(Some("B")).as_deref(), Some("A\nB"));
        assert_eq!(AzureEnvironment::default().authorities(None), None);
    }
}
