//! The operations of an MCP server as API Management sees them, and the OpenAPI document that imports them all with
//! one write.
//! In: the transports of the server; out: operations and the document.
//!
//! What an import needs to come back unchanged: no `servers` (they would become the API's serviceUrl); title and
//! description equal to the API's; for every operation a lower-case dashed operationId, a summary and the same text
//! as description (the service copies the summary there); template parameters declared.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::names::short_hash;
use super::wire::{Operation, TemplateParameter};

/// All ids that we ever give to an operation; any other operation in our API was made by somebody else.
pub const OPERATION_IDS: [&str; 7] = [
    "mcp-post",
    "mcp-get",
    "mcp-delete",
    "mcp-head",
    "sse-connection",
    "mcp-messages",
    "oauth-metadata",
];

/// Where a server that demands tokens tells who issues them (RFC 9728, below its own address).
const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// The transports that the server speaks, as paths below the API's own.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Transports {
    /// The endpoint for POST, GET and DELETE, for example `/mcp`.
    pub streamable_http: Option<String>,
    pub sse: Option<Sse>,
}

/// The transport of the 2024-11-05 revision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sse {
    /// For example `/sse`.
    pub path: String,
    /// For example `/messages/{session_id}`.
    pub messages_path: String,
}

/// An operation that the API must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedOperation {
    pub id: &'static str,
    pub method: &'static str,
    pub summary: &'static str,
    pub url_template: String,
}

/// The operations for these transports, in a fixed order. No two have one method and path: the specification lets the
/// transports share them, and API Management does not. An API that is open to callers without a key has the metadata of
/// OAuth as well: a key is demanded by the whole API, and whoever asks for the metadata has none.
pub fn operations(transports: &Transports, is_open: bool) -> Vec<WantedOperation> {
    let wanted = |id, method, summary, template: &str| WantedOperation {
        id,
        method,
        summary,
        url_template: template.to_owned(),
    };
    let mut operations = vec![];
    if let Some(path) = &transports.streamable_http {
        operations.push(wanted("mcp-post", "POST", "MCP message", path));
        operations.push(wanted("mcp-get", "GET", "MCP server stream", path));
        operations.push(wanted("mcp-delete", "DELETE", "End of an MCP session", path));
        operations.push(wanted("mcp-head", "HEAD", "Is the MCP server there", path));
    }
    if let Some(Sse { path, messages_path }) = &transports.sse {
        operations.push(wanted(
            "sse-connection",
            "GET",
            "MCP over SSE: event stream",
            path,
        ));
        operations.push(wanted(
            "mcp-messages",
            "POST",
            "MCP over SSE: message",
            messages_path,
        ));
    }
    if is_open {
        operations.push(wanted(
            "oauth-metadata",
            "GET",
            "Who issues tokens for the MCP server",
            METADATA_PATH,
        ));
    }
    let mut known = HashSet::new();
    operations.retain(|operation| known.insert((operation.method, shape(&operation.url_template))));
    operations
}

/// What the service compares of a template: parameters match whatever they are called.
fn shape(template: &str) -> String {
    let mut shape = template.to_ascii_lowercase();
    for name in template_parameters(&template.to_ascii_lowercase()) {
        shape = shape.replace(&format!("{{{name}}}"), "{}");
    }
    shape
}

/// A print of the operations, for the mark of their API.
pub fn print(operations: &[WantedOperation]) -> String {
    let parts: Vec<&str> = operations
        .iter()
        .flat_map(|operation| {
            [
                operation.id,
                operation.method,
                operation.summary,
                &operation.url_template,
            ]
        })
        .collect();
    short_hash(&parts, 8)
}

/// The names in braces of a URL template, in order.
pub fn template_parameters(template: &str) -> Vec<&str> {
    template
        .split('{')
        .skip(1)
        .filter_map(|part| part.split_once('}'))
        .map(|(name, _)| name)
        .filter(|name| !name.is_empty())
        .collect()
}

impl WantedOperation {
    pub(crate) fn wire(&self) -> Operation {
        Operation {
            display_name: Some(self.summary.to_owned()),
            method: Some(self.method.to_owned()),
            url_template: Some(self.url_template.clone()),
            description: Some(self.summary.to_owned()),
            template_parameters: Some(
                template_parameters(&self.url_template)
                    .into_iter()
                    .map(|name| TemplateParameter {
                        name: name.to_owned(),
                        kind: Some("string".to_owned()),
                        required: Some(true),
                    })
                    .collect(),
            ),
        }
    }
}

/// The import document.
pub fn document(title: &str, description: &str, operations: &[WantedOperation]) -> Value {
    let mut paths = Map::new();
    for operation in operations {
        let parameters: Vec<Value> = template_parameters(&operation.url_template)
            .into_iter()
            .map(|name| json!({"name": name, "in": "path", "required": true, "schema": {"type": "string"}}))
            .collect();
        let mut entry = json!({
            "operationId": operation.id,
            "summary": operation.summary,
            "description": operation.summary,
            // OpenAPI demands a response; the content type differs with the transport and is left open.
            "responses": {"200": {"description": "OK"}},
        });
        if !parameters.is_empty() {
            entry["parameters"] = Value::Array(parameters);
        }
        let path = paths
            .entry(operation.url_template.clone())
            .or_insert_with(|| json!({}));
        path[operation.method.to_ascii_lowercase()] = entry;
    }
    json!({
        "openapi": "3.0.1",
        "info": {"title": title, "description": description, "version": "1.0"},
        "paths": paths,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn both() -> Transports {
        Transports {
            streamable_http: Some("/mcp".into()),
            sse: Some(Sse {
                path: "/sse".into(),
                messages_path: "/messages/{session_id}".into(),
            }),
        }
    }

    #[test]
    fn both_transports() {
        insta::assert_json_snapshot!(document(
            "weather",
            "Weather\n\n[mark]",
            &operations(&both(), false)
        ));
    }

    #[test]
    fn each_transport_brings_its_operations() {
        let ids = |transports: &Transports| {
            let operations = operations(transports, false);
            operations.iter().map(|o| o.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(&both()), OPERATION_IDS[..6]);
        assert_eq!(ids(&Transports { sse: None, ..both() }), OPERATION_IDS[..4]);
        assert_eq!(
            ids(&Transports {
                streamable_http: None,
                ..both()
            }),
            OPERATION_IDS[4..6]
        );
        let open = operations(&both(), true);
        assert_eq!(open.iter().map(|o| o.id).collect::<Vec<_>>(), OPERATION_IDS);
    }

    #[test]
    fn one_method_and_path_is_one_operation() {
        let shared = |sse: &str, messages: &str| {
            let transports = Transports {
                streamable_http: Some("/mcp".into()),
                sse: Some(Sse {
                    path: sse.into(),
                    messages_path: messages.into(),
                }),
            };
            let operations = operations(&transports, false);
            let ids = operations.iter().map(|o| o.id).collect::<Vec<_>>();
            // The document of the import has a place for each.
            let document = document("t", "d", &operations);
            let paths = document["paths"].as_object().unwrap();
            let entries: usize = paths.values().map(|path| path.as_object().unwrap().len()).sum();
            assert_eq!(entries, ids.len());
            ids
        };
        assert_eq!(
            shared("/sse", "/mcp"),
            ["mcp-post", "mcp-get", "mcp-delete", "mcp-head", "sse-connection"]
        );
        assert_eq!(
            shared("/MCP", "/messages"),
            ["mcp-post", "mcp-get", "mcp-delete", "mcp-head", "mcp-messages"]
        );
        assert_eq!(
            shared("/mcp", "/mcp"),
            ["mcp-post", "mcp-get", "mcp-delete", "mcp-head"]
        );
        assert_eq!(shape("/a/{Id}/b"), shape("/A/{session}/b"));
    }

    #[test]
    fn template_parameters_are_found() {
        for (template, names) in [
            ("/mcp", vec![]),
            ("/messages/{session_id}", vec!["session_id"]),
            ("/{a}/x/{b}", vec!["a", "b"]),
        ] {
            assert_eq!(template_parameters(template), names);
        }
    }

    #[test]
    fn ids_are_as_the_service_keeps_them() {
        for id in OPERATION_IDS {
            assert!(id.chars().all(|c| c.is_ascii_lowercase() || c == '-'));
        }
    }
}
