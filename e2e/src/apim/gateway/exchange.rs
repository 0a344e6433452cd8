//! One call through the gateway: what is known of it while policies run.
//! In: the request and what it was routed to. Out: the context that policy expressions see.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use http::header::HOST;
use http::request::Parts;
use http::{HeaderMap, Method};

use super::route::Route;
use crate::apim::policy::expression::{Context, Value};
use crate::apim::query::Query;
use crate::apim::store::{Document, World};

/// Where the call goes when it is forwarded.
#[derive(Clone, Debug)]
pub(super) struct Destination {
    pub(super) base: String,
    pub(super) backend: Option<Arc<Document>>,
}

#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) world: Arc<World>,
    pub(super) peer: IpAddr,
    pub(super) host: String,
    pub(super) method: Method,
    pub(super) headers: HeaderMap,
    /// Path as it came, and the part below the API's path.
    pub(super) path: String,
    pub(super) rest: String,
    pub(super) query: Query,
    /// The query as it came, as long as no policy changed it.
    pub(super) raw_query: Option<String>,
    pub(super) api: Arc<Document>,
    pub(super) operation: Option<Arc<Document>>,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) subscription: Option<Arc<Document>>,
    pub(super) product: Option<Arc<Document>>,
    pub(super) variables: BTreeMap<String, Value>,
    pub(super) destination: Option<Destination>,
    /// Status and headers of the answer, once there is one.
    pub(super) status: Option<u16>,
    pub(super) answer_headers: HeaderMap,
    /// Headers that inbound policies want on the answer.
    pub(super) added: Vec<(String, String)>,
    pub(super) id: String,
}

impl Exchange {
    pub(super) fn new(world: Arc<World>, peer: IpAddr, parts: Parts, route: Route) -> Self {
        let authority = parts.uri.authority().map(ToString::to_string);
        let header = || {
            parts
                .headers
                .get(HOST)
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned)
        };
        Self {
            world,
            peer,
            host: authority.or_else(header).unwrap_or_default(),
            method: parts.method,
            path: parts.uri.path().to_owned(),
            rest: route.rest,
            query: Query::parse(parts.uri.query()),
            raw_query: parts.uri.query().map(str::to_owned),
            headers: parts.headers,
            api: route.api,
            operation: None,
            parameters: BTreeMap::new(),
            subscription: None,
            product: None,
            variables: BTreeMap::new(),
            destination: None,
            status: None,
            answer_headers: HeaderMap::new(),
            added: Vec::new(),
            id: uuid::Uuid::new_v4().to_string(),
        }
    }

    pub(super) fn header(&self, name: &str) -> Option<String> {
        joined(&self.headers, name)
    }
}

/// All values of a header, joined as APIM shows them.
fn joined(headers: &HeaderMap, name: &str) -> Option<String> {
    let values: Vec<&str> = headers
        .get_all(name)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .collect();
    (!values.is_empty()).then(|| values.join(","))
}

fn text(value: impl Into<String>) -> Value {
    Value::Text(value.into())
}

impl Context for Exchange {
    fn property(&self, path: &str) -> Option<Value> {
        let of = |document: Option<&Arc<Document>>, member: &str| {
            Some(match (document, member) {
                (None, _) => Value::Null,
                (Some(document), "Id") => Value::Text(document.name().into()),
                (Some(document), "Name") => {
                    Value::Text(document.text("displayName").unwrap_or_default().into())
                }
                (Some(document), "Path") => Value::Text(document.text("path").unwrap_or_default().into()),
                (Some(document), "Method") => Value::Text(document.text("method").unwrap_or_default().into()),
                (Some(document), "UrlTemplate") => {
                    Value::Text(document.text("urlTemplate").unwrap_or_default().into())
                }
                (Some(document), "Key") => {
                    Value::Text(document.text("primaryKey").unwrap_or_default().into())
                }
                _ => return None,
            })
        };
        if let Some((group, member)) = path
            .strip_prefix("context.")
            .and_then(|rest| rest.split_once('.'))
        {
            match group {
                "Api" => return of(Some(&self.api), member),
                "Operation" => return of(self.operation.as_ref(), member),
                "Product" => return of(self.product.as_ref(), member),
                "Subscription" => return of(self.subscription.as_ref(), member),
                _ => {}
            }
        }
        match path {
            "context.RequestId" => Some(text(self.id.clone())),
            "context.Product" if self.product.is_none() => Some(Value::Null),
            "context.Subscription" if self.subscription.is_none() => Some(Value::Null),
            "context.Request.Method" => Some(text(self.method.as_str())),
            "context.Request.IpAddress" => Some(text(self.peer.to_string())),
            "context.Request.Url.Path" => Some(text(self.rest.clone())),
            "context.Request.OriginalUrl.Path" => Some(text(self.path.clone())),
            "context.Request.OriginalUrl.Host" | "context.Request.Url.Host" => {
                Some(text(self.host.split(':').next().unwrap_or_default()))
            }
            "context.Response.StatusCode" => self.status.map(|status| Value::Number(status.into())),
            _ => None,
        }
    }

    fn call(&self, path: &str, arguments: &[Value]) -> Option<Value> {
        let name = arguments.first()?.text();
        let default = || arguments.get(1).cloned().unwrap_or(Value::Null);
        let get = |found: Option<Value>| Some(found.unwrap_or_else(default));
        let (table, method) = path.rsplit_once('.')?;
        let find = |table: &str| -> Option<Option<Value>> {
            Some(match table {
                "context.Request.Headers" => self.header(&name).map(Value::Text),
                "context.Response.Headers" => joined(&self.answer_headers, &name).map(Value::Text),
                "context.Request.Url.Query" | "context.Request.OriginalUrl.Query" => {
                    self.query.get(&name).map(|value| Value::Text(value.into()))
                }
                "context.Request.MatchedParameters" | "context.Request.OriginalUrl.MatchedParameters" => {
                    self.parameters.get(&name).cloned().map(Value::Text)
                }
                "context.Variables" => self.variables.get(&name).cloned(),
                _ => return None,
            })
        };
        match method {
            "GetValueOrDefault" => get(find(table)?),
            "ContainsKey" => Some(Value::Flag(find(table)?.is_some())),
            // Indexed, as in `context.Variables["x"]`.
            _ => get(find(path)?),
        }
    }

    fn named_value(&self, name: &str) -> Option<String> {
        let mut all = self.world.members("namedValues");
        all.find(|value| value.text("displayName") == Some(name))?
            .text("value")
            .map(str::to_owned)
    }
}
