//! Where the ARM client talks to: one API Management service in one cloud.
//! In: the ids and the cloud that a gateway object names; out: checked URLs of its resources.

use std::net::IpAddr;

use url::{Host, Url};

/// The newest stable version in every source (ARM specification, SDKs, Terraform).
pub const API_VERSION: &str = "2024-05-01";

/// The cloud that hosts the service: ARM endpoint, Entra authority and token audience belong together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cloud {
    Public,
    UsGovernment,
    China,
    Custom {
        endpoint: Url,
        authority: Url,
        /// Without `/.default`, for example `https://management.azure.com`.
        audience: String,
    },
}

/// Whether `http` to a loopback address is accepted. Tests of the transport need it; nothing else may.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PlainHttp {
    #[default]
    Refused,
    LoopbackOnly,
}

#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    #[error(
        "the {field} of the API Management service is empty or has characters that no Azure name has: {value:?}"
    )]
    Name { field: &'static str, value: String },
    #[error("the {field} must be an https URL without query, fragment or user: {url}")]
    Url { field: &'static str, url: String },
    #[error("the audience for Azure Resource Manager tokens is empty")]
    Audience,
}

/// One API Management service. Built only by [`Target::new`], so its parts are safe to put into a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    subscription_id: String,
    resource_group: String,
    service_name: String,
    endpoint: Url,
    authority: Url,
    audience: String,
}

impl Target {
    pub fn new(
        subscription_id: &str,
        resource_group: &str,
        service_name: &str,
        cloud: Cloud,
        plain_http: PlainHttp,
    ) -> Result<Self, TargetError> {
        let (endpoint, authority, audience) = addresses(cloud)?;
        check_url("ARM endpoint", &endpoint, plain_http)?;
        // azure_identity refuses an authority without TLS as well.
        check_url("authority", &authority, PlainHttp::Refused)?;
        if audience.is_empty() {
            return Err(TargetError::Audience);
        }
        Ok(Self {
            subscription_id: checked_name("subscription id", subscription_id)?,
            resource_group: checked_name("resource group", resource_group)?,
            service_name: checked_name("service name", service_name)?,
            endpoint,
            authority,
            audience,
        })
    }

    pub fn subscription_id(&self) -> &str {
        &self.subscription_id
    }

    pub fn service_name(&self) -> &str {
        &self.service_name
    }

    pub fn endpoint(&self) -> &Url {
        &self.endpoint
    }

    pub fn authority(&self) -> &Url {
        &self.authority
    }

    /// The OAuth scope of a token for this ARM endpoint. A trailing slash of the audience is kept:
    /// Entra treats audiences with and without it as different.
    pub fn scope(&self) -> String {
        if self.audience.ends_with("/.default") {
            self.audience.clone()
        } else {
            format!("{}/.default", self.audience)
        }
    }

    /// The ARM id of the service.
    pub fn service_id(&self) -> String {
        format!(
            "/subscriptions/{}/resourceGroups/{}/providers/Microsoft.ApiManagement/service/{}",
            self.subscription_id, self.resource_group, self.service_name
        )
    }

    /// The ARM id of a resource of the service.
    pub fn id(&self, resource: &Resource) -> String {
        let mut id = self.service_id();
        for segment in resource.segments() {
            id.push('/');
            id.push_str(segment);
        }
        id
    }

    /// The address of a resource, with the api-version that every call carries.
    pub(crate) fn url(&self, resource: &Resource) -> Url {
        let mut url = self.endpoint.clone();
        let service = self.service_id();
        if let Ok(mut segments) = url.path_segments_mut() {
            segments
                .pop_if_empty()
                .extend(service.split('/').skip(1))
                .extend(resource.segments());
        }
        url.query_pairs_mut().append_pair("api-version", API_VERSION);
        url
    }
}

fn addresses(cloud: Cloud) -> Result<(Url, Url, String), TargetError> {
    let fixed = |endpoint: &str, authority: &str| {
        let parse = |text: &str| {
            Url::parse(text).map_err(|_| TargetError::Url {
                field: "ARM endpoint",
                url: text.to_owned(),
            })
        };
        Ok((parse(endpoint)?, parse(authority)?, endpoint.to_owned()))
    };
    match cloud {
        Cloud::Public => fixed(
            "https://management.azure.com",
            "https://login.microsoftonline.com",
        ),
        Cloud::UsGovernment => fixed(
            "https://management.usgovcloudapi.net",
            "https://login.microsoftonline.us",
        ),
        Cloud::China => fixed(
            "https://management.chinacloudapi.cn",
            "https://login.chinacloudapi.cn",
        ),
        Cloud::Custom {
            endpoint,
            authority,
            audience,
        } => Ok((endpoint, authority, audience)),
    }
}

fn check_url(field: &'static str, url: &Url, plain_http: PlainHttp) -> Result<(), TargetError> {
    let secure = url.scheme() == "https"
        || (plain_http == PlainHttp::LoopbackOnly && url.scheme() == "http" && is_loopback(url));
    let plain = url.query().is_none()
        && url.fragment().is_none()
        && url.username().is_empty()
        && url.password().is_none()
        && url.host().is_some();
    if secure && plain {
        return Ok(());
    }
    Err(TargetError::Url {
        field,
        url: shown(url),
    })
}

/// The URL without what may be a password.
fn shown(url: &Url) -> String {
    format!(
        "{}://{}{}",
        url.scheme(),
        url.host_str().unwrap_or_default(),
        url.path()
    )
}

pub(crate) fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => IpAddr::V4(address).is_loopback(),
        Some(Host::Ipv6(address)) => IpAddr::V6(address).is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Azure resource group names allow `-_.()` and letters of any script; none of them needs more than this check
/// to be one segment of a path.
fn checked_name(field: &'static str, value: &str) -> Result<String, TargetError> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "/\\?#%&+:<>*".contains(c);
    if value.is_empty() || value == "." || value == ".." || value.contains(forbidden) {
        return Err(TargetError::Name {
            field,
            value: value.to_owned(),
        });
    }
    Ok(value.to_owned())
}

/// One of the two keys of a subscription.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum KeySlot {
    #[default]
    Primary,
    Secondary,
}

impl KeySlot {
    #[must_use]
    pub fn other(self) -> Self {
        match self {
            Self::Primary => Self::Secondary,
            Self::Secondary => Self::Primary,
        }
    }
}

/// One resource of the service, by its names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Resource {
    Service,
    Diagnostics,
    Backends,
    Backend(String),
    Apis,
    Api(String),
    Operations(String),
    /// API id, operation id.
    Operation(String, String),
    ApiPolicy(String),
    Product(String),
    ProductApis(String),
    /// Product id, API id.
    ProductApi(String, String),
    Subscriptions,
    Subscription(String),
    SubscriptionSecrets(String),
    /// The address that makes this key of a subscription anew.
    SubscriptionKey(String, KeySlot),
    NamedValue(String),
}

impl Resource {
    fn segments(&self) -> Vec<&str> {
        match self {
            Self::Service => vec![],
            Self::Diagnostics => vec!["diagnostics"],
            Self::Backends => vec!["backends"],
            Self::Backend(id) => vec!["backends", id],
            Self::Apis => vec!["apis"],
            Self::Api(id) => vec!["apis", id],
            Self::Operations(api) => vec!["apis", api, "operations"],
            Self::Operation(api, id) => vec!["apis", api, "operations", id],
            Self::ApiPolicy(api) => vec!["apis", api, "policies", "policy"],
            Self::Product(id) => vec!["products", id],
            Self::ProductApis(id) => vec!["products", id, "apis"],
            Self::ProductApi(product, api) => vec!["products", product, "apis", api],
            Self::Subscriptions => vec!["subscriptions"],
            Self::Subscription(id) => vec!["subscriptions", id],
            Self::SubscriptionSecrets(id) => vec!["subscriptions", id, "listSecrets"],
            Self::SubscriptionKey(id, KeySlot::Primary) => vec!["subscriptions", id, "regeneratePrimaryKey"],
            Self::SubscriptionKey(id, KeySlot::Secondary) => {
                vec!["subscriptions", id, "regenerateSecondaryKey"]
            }
            Self::NamedValue(id) => vec!["namedValues", id],
        }
    }

    /// The label for metrics, and the noun in messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Diagnostics => "diagnostic",
            Self::Backends | Self::Backend(_) => "backend",
            Self::Apis | Self::Api(_) => "api",
            Self::Operations(_) | Self::Operation(..) => "operation",
            Self::ApiPolicy(_) => "policy",
            Self::Product(_) => "product",
            Self::ProductApis(_) | Self::ProductApi(..) => "product link",
            Self::Subscriptions
            | Self::Subscription(_)
            | Self::SubscriptionSecrets(_)
            | Self::SubscriptionKey(..) => "subscription",
            Self::NamedValue(_) => "named value",
        }
    }

    /// What a message calls it: the kind and the name, for example `api tools-weather-1f2e3d4c`.
    pub fn title(&self) -> String {
        let kind = self.kind();
        match self {
            Self::Service => kind.to_owned(),
            Self::Apis => "the list of APIs".to_owned(),
            Self::Diagnostics => "the list of diagnostics".to_owned(),
            Self::Backends => "the list of backends".to_owned(),
            Self::Subscriptions => "the list of subscriptions".to_owned(),
            Self::Operations(api) => format!("the operations of api {api}"),
            Self::ApiPolicy(api) => format!("policy of api {api}"),
            Self::ProductApis(product) => format!("the APIs of product {product}"),
            Self::Backend(id)
            | Self::Api(id)
            | Self::Operation(_, id)
            | Self::Product(id)
            | Self::Subscription(id)
            | Self::SubscriptionSecrets(id)
            | Self::NamedValue(id) => format!("{kind} {id}"),
            Self::ProductApi(product, api) => format!("{kind} {product} to api {api}"),
            Self::SubscriptionKey(id, KeySlot::Primary) => format!("the primary key of {kind} {id}"),
            Self::SubscriptionKey(id, KeySlot::Secondary) => format!("the secondary key of {kind} {id}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn custom(endpoint: &str) -> Cloud {
        Cloud::Custom {
            endpoint: Url::parse(endpoint).unwrap(),
            authority: Url::parse("https://login.example.com/").unwrap(),
            audience: "https://management.example.com/".to_owned(),
        }
    }

    #[test]
    fn urls_keep_a_prefix_of_the_endpoint_and_encode_names() {
        let target = Target::new(
            "s",
            "g (1)",
            "contoso",
            custom("https://arm.example.com/prefix/"),
            PlainHttp::Refused,
        );
        assert!(target.is_err(), "a space in a resource group is refused");
        let target = Target::new(
            "s",
            "g(1)",
            "contoso",
            custom("https://arm.example.com/prefix/"),
            PlainHttp::Refused,
        )
        .unwrap();
        assert_eq!(
            target
                .url(&Resource::Operation("a b".into(), "mcp-post".into()))
                .as_str(),
            "https://arm.example.com/prefix/subscriptions/s/resourceGroups/g(1)/providers/Microsoft.ApiManagement\
             /service/contoso/apis/a%20b/operations/mcp-post?api-version=2024-05-01"
        );
        assert_eq!(target.scope(), "https://management.example.com//.default");
    }

    #[test]
    fn only_https_except_loopback_when_asked() {
        let cases = [
            ("https://arm.example.com", PlainHttp::Refused, true),
            ("http://arm.example.com", PlainHttp::Refused, false),
            ("http://arm.example.com", PlainHttp::LoopbackOnly, false),
            ("http://127.0.0.1:8080", PlainHttp::Refused, false),
            ("http://127.0.0.1:8080", PlainHttp::LoopbackOnly, true),
            ("http://localhost.example.com", PlainHttp::LoopbackOnly, false),
            ("https://user:word@arm.example.com", PlainHttp::Refused, false),
            ("https://arm.example.com/?x=1", PlainHttp::Refused, false),
        ];
        for (endpoint, plain_http, accepted) in cases {
            let target = Target::new("s", "g", "contoso", custom(endpoint), plain_http);
            assert_eq!(target.is_ok(), accepted, "{endpoint} {plain_http:?}");
            if let Err(error) = target {
                assert!(!error.to_string().contains("word"), "{error}");
            }
        }
    }

    #[test]
    fn names_that_would_leave_their_path_segment_are_refused() {
        for name in ["", "..", "a/b", "a?b", "a#b", "a%2fb"] {
            assert!(
                Target::new("s", "g", name, Cloud::Public, PlainHttp::Refused).is_err(),
                "{name:?}"
            );
        }
        for cloud in [Cloud::Public, Cloud::UsGovernment, Cloud::China] {
            let target = Target::new("s", "g", "contoso", cloud, PlainHttp::Refused).unwrap();
            assert!(target.scope().ends_with("/.default") && !target.scope().contains("//.default"));
        }
    }
}
