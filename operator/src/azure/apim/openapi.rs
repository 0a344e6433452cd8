//! The operations of an MCP server as API Management sees them, and the OpenAPI document that imports them all with
//! one write.
//! In: the transports of the server; out: operations and the document.
//!
//! What an import needs to come back unchanged: no `servers` (they would become the API's serviceUrl); title and
//! description equal to the API's; for every operation a lower-case dashed operationId, a summary and the same text
//! as description (the service copies the summary there); template parameters declared.

use serde_json::{Map, Value, json};

use super::wire::{Operation, TemplateParameter};

/// All ids that we ever give to an operation; any other operation in our API was made by somebody else.
pub const OPERATION_IDS: [&str; 5] = [
    "mcp-post",
    "mcp-get",
    "mcp-delete",
    "sse-connection",
    "mcp-messages",
];

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

/// The operations for these transports, in a fixed order.
pub fn operations(transports: &Transports) -> Vec<WantedOperation> {
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
    operations
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
        insta::assert_json_snapshot!(document("weather", "Weather\n\n[mark]", &operations(&both())));
    }

    #[test]
    fn each_transport_brings_its_operations() {
        let ids = |transports: &Transports| operations(transports).iter().map(|o| o.id).collect::<Vec<_>>();
        assert_eq!(ids(&both()), OPERATION_IDS);
        assert_eq!(ids(&Transports { sse: None, ..both() }), OPERATION_IDS[..3]);
        assert_eq!(
            ids(&Transports {
                streamable_http: None,
                ..both()
            }),
            OPERATION_IDS[3..]
        );
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
