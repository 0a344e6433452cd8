//! From a registration to the ARM documents that it needs, in the order in which they are written.
//! In: [`ServerRegistration`]; out: `ServerDocuments`. Pure: nothing is read, and the same input gives the same
//! documents for ever.

use url::Url;

use super::{
    mark::{self, Owner},
    openapi::{self, Transports, WantedOperation},
    policy::{self, ApiPolicy, ApiSecret, Cors, RateLimit},
    secret::SecretString,
    wire::{Api, Backend, BackendTls, KeyNames, OthersSettings, Policy, Subscription},
};

const DISPLAY_NAME_LIMIT: usize = 300;
const DESCRIPTION_LIMIT: usize = 2000;

/// The names of what one server has in API Management. Stored in its claim; enough to remove it all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerIds {
    pub api_id: String,
    pub backend_id: String,
    /// Of the probe.
    pub subscription_id: String,
}

/// What API Management checks of a backend's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BackendChecks {
    /// Who signed it.
    pub chain: bool,
    /// That it holds for the host in the URL.
    pub name: bool,
}

impl BackendChecks {
    pub const ALL: Self = Self {
        chain: true,
        name: true,
    };
}

/// What one MCP server wants to be in API Management.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerRegistration {
    pub owner: Owner,
    pub ids: ServerIds,
    /// Below the gateway's base URL, without slashes at its ends.
    pub path: String,
    pub display_name: String,
    pub description: Option<String>,
    pub backend_url: Url,
    /// What is checked of the certificate, where that is an https URL.
    pub backend_checks: BackendChecks,
    /// The name by which the server is called, where that is not the one in the URL.
    pub backend_host: Option<String>,
    pub transports: Transports,
    pub subscription_required: bool,
    /// Where callers put their subscription key; the query parameter is always `subscription-key`.
    pub key_header: String,
    pub timeout_seconds: u32,
    pub rate_limit: Option<RateLimit>,
    pub cors: Option<Cors>,
    /// What the gateway sends so that the server knows it.
    pub secret: Option<SecretReference>,
    /// The key of the probe's subscription (scope: this API alone), chosen by the caller, so that it never has to
    /// be read back. `None`: no such subscription, and one that is there is removed.
    pub probe_key: Option<SecretString>,
}

/// Where the gateway finds its secret, and in which header the server wants its own, which is derived from it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretReference {
    pub named_value: String,
    pub header: String,
}

/// A registration that the service would refuse or misread; found before anything is written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} {problem}: {value:?}")]
pub struct InvalidRegistration {
    pub field: &'static str,
    pub problem: &'static str,
    pub value: String,
}

/// The documents of a server: backend, API with its operations, policy, probe subscription.
#[derive(Clone, Debug)]
pub(crate) struct ServerDocuments {
    pub(crate) backend: Backend,
    pub(crate) api: Api,
    pub(crate) operations: Vec<WantedOperation>,
    pub(crate) policy: String,
    pub(crate) subscription: Option<Subscription>,
}

pub(crate) fn documents(desired: &ServerRegistration) -> Result<ServerDocuments, InvalidRegistration> {
    check(desired)?;
    let ServerRegistration {
        owner,
        ids,
        path,
        display_name,
        description,
        backend_url,
        backend_checks,
        backend_host,
        transports,
        subscription_required,
        key_header,
        timeout_seconds,
        rate_limit,
        cors,
        secret,
        probe_key,
    } = desired;
    // Whoever needs no key has none to find out with where a token is to be had.
    let operations = openapi::operations(transports, !subscription_required);
    let title: String = display_name.chars().take(DISPLAY_NAME_LIMIT).collect();
    let policy = policy::render(&ApiPolicy {
        backend_id: &ids.backend_id,
        key_header,
        host: backend_host.as_deref(),
        timeout_seconds: *timeout_seconds,
        rate_limit: *rate_limit,
        cors: cors.as_ref(),
        secret: secret.as_ref().map(|secret| ApiSecret {
            named_value: &secret.named_value,
            api_id: &ids.api_id,
            header: &secret.header,
        }),
    });
    Ok(ServerDocuments {
        backend: Backend {
            title: Some(title.clone()),
            description: Some(mark::describe(None, owner, DESCRIPTION_LIMIT)),
            url: Some(backend_url.as_str().trim_end_matches('/').to_owned()),
            protocol: Some("http".to_owned()),
            tls: (backend_url.scheme() == "https").then_some(BackendTls {
                validate_certificate_chain: backend_checks.chain,
                validate_certificate_name: backend_checks.name,
            }),
        },
        api: Api {
            display_name: Some(title),
            description: Some(mark::describe_api(
                description.as_deref(),
                owner,
                &openapi::print(&operations),
                DESCRIPTION_LIMIT,
            )),
            path: Some(path.trim_matches('/').to_owned()),
            protocols: Some(vec!["https".to_owned()]),
            subscription_required: Some(*subscription_required),
            subscription_key_parameter_names: Some(KeyNames {
                header: Some(key_header.clone()),
                query: Some(policy::KEY_QUERY.to_owned()),
            }),
            ..Api::default()
        },
        operations,
        policy,
        subscription: probe_key.as_ref().map(|key| Subscription {
            display_name: Some(mark::label(owner, Some(&mark::key_print(key.expose())))),
            scope: Some(format!("/apis/{}", ids.api_id)),
            state: Some("active".to_owned()),
            primary_key: Some(key.expose().to_owned()),
            secondary_key: None,
        }),
    })
}

impl ServerDocuments {
    /// The body of the import: the API with all its operations in one write. `others` is what somebody else has set
    /// and the import would reset.
    pub(crate) fn import(&self, others: OthersSettings) -> Api {
        let title = self.api.display_name.as_deref().unwrap_or_default();
        let description = self.api.description.as_deref().unwrap_or_default();
        Api {
            format: Some("openapi+json".to_owned()),
            value: Some(openapi::document(title, description, &self.operations).to_string()),
            others,
            ..self.api.clone()
        }
    }

    pub(crate) fn policy_body(&self) -> Policy {
        // `xml`: all of it is escaped, our expression too. `rawxml` is for expressions as they are.
        Policy {
            format: Some("xml".to_owned()),
            value: self.policy.clone(),
        }
    }
}

/// The caller has validated its own spec; this guards what would be dangerous here whatever the caller did: a text
/// that starts with `@(` or holds `{{name}}` is run or replaced by the service inside a policy.
fn check(desired: &ServerRegistration) -> Result<(), InvalidRegistration> {
    let invalid = |field, problem, value: &str| {
        Err(InvalidRegistration {
            field,
            problem,
            value: value.to_owned(),
        })
    };
    let url = &desired.backend_url;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
        return invalid("backend URL", "is not http or https", url.as_str());
    }
    let names = &desired.ids;
    for (field, id) in [
        ("api id", &names.api_id),
        ("backend id", &names.backend_id),
        ("subscription id", &names.subscription_id),
    ] {
        if id.is_empty()
            || id.len() > 80
            || !id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
        {
            return invalid(
                field,
                "has characters other than letters, digits and -_. or over 80 of them",
                id,
            );
        }
    }
    let transports = &desired.transports;
    let templates = transports.streamable_http.iter().chain(
        transports
            .sse
            .iter()
            .flat_map(|sse| [&sse.path, &sse.messages_path]),
    );
    for template in templates {
        if !template.starts_with('/') || template.contains(['?', '#', '*']) || template.len() > 1000 {
            return invalid("transport path", "is not an absolute path", template);
        }
    }
    if desired.transports == Transports::default() {
        return invalid("transports", "names no transport", "");
    }
    if !is_header_name(&desired.key_header) {
        return invalid("key header", "is not a header name", &desired.key_header);
    }
    if let Some(cors) = &desired.cors {
        check_cors(cors)?;
    }
    if let Some(SecretReference { named_value, header }) = &desired.secret {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
        if named_value.is_empty() || !named_value.chars().all(plain) {
            return invalid(
                "named value",
                "has characters other than letters, digits and -_.",
                named_value,
            );
        }
        if header.is_empty() || !header.chars().all(plain) {
            return invalid(
                "secret header",
                "is not a header name of letters, digits and -_.",
                header,
            );
        }
    }
    if let Some(RateLimit {
        calls,
        renewal_seconds,
    }) = desired.rate_limit
        && (calls == 0 || !(1..=300).contains(&renewal_seconds))
    {
        return invalid(
            "rate limit",
            "needs at least one call and a period of 1 to 300 s",
            &renewal_seconds.to_string(),
        );
    }
    Ok(())
}

fn check_cors(cors: &Cors) -> Result<(), InvalidRegistration> {
    let invalid = |field, problem, value: &str| {
        Err(InvalidRegistration {
            field,
            problem,
            value: value.to_owned(),
        })
    };
    if cors.allowed_origins.is_empty() {
        return invalid("CORS origins", "are empty", "");
    }
    for origin in &cors.allowed_origins {
        if !is_origin(origin) {
            return invalid("CORS origin", "is neither * nor a scheme, host and port", origin);
        }
    }
    for header in &cors.allowed_headers {
        if !is_header_name(header) {
            return invalid("CORS header", "is not a header name", header);
        }
    }
    Ok(())
}

fn is_header_name(text: &str) -> bool {
    let token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    !text.is_empty() && text.chars().all(token)
}

/// The service: "Origin must be a valid URL consisting of scheme, host, and port only".
fn is_origin(text: &str) -> bool {
    if text == "*" {
        return true;
    }
    let Ok(url) = Url::parse(text) else { return false };
    let origin_only =
        url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
    url.origin().is_tuple() && origin_only && !text.ends_with('/') && !text.contains(['*', '@', '{'])
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::azure::apim::openapi::Sse;

    pub(crate) fn registration() -> ServerRegistration {
        ServerRegistration {
            owner: Owner {
                cluster_id: "demo".into(),
                namespace: "tools".into(),
                name: "weather".into(),
                uid: "4fd0f1a2-0001-4000-8000-00000000000a".into(),
            },
            ids: ServerIds {
                api_id: "demo-tools-weather-1".into(),
                backend_id: "demo-tools-weather-1".into(),
                subscription_id: "demo-tools-weather-1".into(),
            },
            path: "tools/weather".into(),
            display_name: "weather".into(),
            description: Some("Weather for the US".into()),
            backend_url: Url::parse("http://203.0.113.7").unwrap(),
            backend_checks: BackendChecks::ALL,
            backend_host: None,
            transports: Transports {
                streamable_http: Some("/mcp".into()),
                sse: Some(Sse {
                    path: "/sse".into(),
                    messages_path: "/messages/{session_id}".into(),
                }),
            },
            subscription_required: true,
            key_header: policy::KEY_HEADER.into(),
            timeout_seconds: 240,
            rate_limit: Some(RateLimit {
                calls: 1000,
                renewal_seconds: 60,
            }),
            cors: None,
            secret: None,
            probe_key: Some(SecretString::new("0123456789abcdef0123456789abcdef")),
        }
    }

    #[test]
    fn what_is_checked_of_a_certificate_is_told_where_there_is_one() {
        let told = |url: &str, backend_checks| {
            let backend_url = Url::parse(url).unwrap();
            let registration = ServerRegistration {
                backend_url,
                backend_checks,
                ..registration()
            };
            serde_json::to_value(&documents(&registration).unwrap().backend).unwrap()["tls"].clone()
        };
        let chain = BackendChecks {
            chain: true,
            name: false,
        };
        assert_eq!(told("http://203.0.113.7", chain), serde_json::Value::Null);
        let expected =
            serde_json::json!({"validateCertificateChain": true, "validateCertificateName": false});
        assert_eq!(told("https://203.0.113.7", chain), expected);
    }

    #[test]
    fn the_import_body() {
        let documents = documents(&registration()).unwrap();
        insta::assert_json_snapshot!(
            serde_json::to_value(documents.import(OthersSettings::default())).unwrap()
        );
        insta::assert_json_snapshot!("backend", serde_json::to_value(&documents.backend).unwrap());
    }

    #[test]
    fn the_probe_subscription_is_scoped_to_the_api() {
        let subscription = documents(&registration()).unwrap().subscription.unwrap();
        assert_eq!(subscription.scope.as_deref(), Some("/apis/demo-tools-weather-1"));
        assert!(subscription.display_name.unwrap().len() <= 100);
    }

    type Change = fn(&mut ServerRegistration);

    #[test]
    fn what_the_service_would_run_or_refuse_is_refused_here() {
        let cors = |origin: &str, header: &str| {
            Some(Cors {
                allowed_origins: vec![origin.into()],
                allowed_headers: vec![header.into()],
                ..Cors::default()
            })
        };
        let secret = |named_value: &str, header: &str| {
            Some(SecretReference {
                named_value: named_value.into(),
                header: header.into(),
            })
        };
        for (named_value, header, field) in [("a}}b", "X-A", "named value"), ("a", "X\"A", "secret header")] {
            let registration = ServerRegistration {
                secret: secret(named_value, header),
                ..registration()
            };
            assert_eq!(documents(&registration).unwrap_err().field, field);
        }
        let cases: [(&str, Change); 7] = [
            ("key header", |r| r.key_header = "@(1)".into()),
            ("backend URL", |r| {
                r.backend_url = Url::parse("ftp://203.0.113.7").unwrap();
            }),
            ("api id", |r| r.ids.api_id = "a/b".into()),
            ("transport path", |r| {
                r.transports.streamable_http = Some("mcp".into());
            }),
            ("transports", |r| r.transports = Transports::default()),
            ("rate limit", |r| {
                r.rate_limit = Some(RateLimit {
                    calls: 1,
                    renewal_seconds: 301,
                });
            }),
            ("CORS origins", |r| r.cors = Some(Cors::default())),
        ];
        for (field, change) in cases {
            let mut registration = registration();
            change(&mut registration);
            assert_eq!(documents(&registration).unwrap_err().field, field);
        }
        for (origin, accepted) in [
            ("*", true),
            ("https://app.example.com", true),
            ("https://app.example.com:443", true),
            ("http://localhost:6274", true),
            ("https://*.example.com", false),
            ("https://app.example.com/", false),
            ("@(context.Request.Headers[\"Origin\"])", false),
            ("{{origin}}", false),
            ("null", false),
        ] {
            let registration = ServerRegistration {
                cors: cors(origin, "X-Team"),
                ..registration()
            };
            assert_eq!(documents(&registration).is_ok(), accepted, "{origin}");
        }
        for header in ["@(1)", "{{name}}", "a b", ""] {
            let registration = ServerRegistration {
                cors: cors("*", header),
                ..registration()
            };
            assert_eq!(
                documents(&registration).unwrap_err().field,
                "CORS header",
                "{header}"
            );
        }
    }
}
