//! Imports an API with its operations from an OpenAPI document in JSON.
//! In: the text of the document and the API that the PUT wants. Out: what the document says about the API, and its
//! operations.

use serde_json::{Map, Value, json};

use super::error::Refusal;
use super::operation::{normal, template_names};
use crate::apim::kind::Kind;
use crate::apim::store::{Document, Properties};
use crate::apim::switches::OperationIds;

#[derive(Debug)]
pub(super) struct Imported {
    pub(super) title: String,
    pub(super) description: Option<String>,
    /// From the first of `servers`.
    pub(super) service_url: Option<String>,
    pub(super) operations: Vec<Document>,
}

const METHODS: [&str; 8] = [
    "get", "put", "post", "delete", "options", "head", "patch", "trace",
];

fn unreadable(message: impl std::fmt::Display) -> Refusal {
    Refusal::member("representation", format!("Parsing error(s): {message}"))
}

pub(super) fn import(text: &str, api: &str, ids: OperationIds) -> Result<Imported, Refusal> {
    let document: Value = serde_json::from_str(text).map_err(unreadable)?;
    let version = document["openapi"].as_str().unwrap_or_default();
    if !version.starts_with("3.") {
        return Err(unreadable("The document is not OpenAPI 3."));
    }
    let title = document["info"]["title"]
        .as_str()
        .filter(|title| !title.is_empty());
    let title = title.ok_or_else(|| unreadable("The field 'title' in 'info' object is REQUIRED."))?;
    if document["info"]["version"].as_str().is_none() {
        return Err(unreadable("The field 'version' in 'info' object is REQUIRED."));
    }
    let paths = document["paths"]
        .as_object()
        .ok_or_else(|| unreadable("The field 'paths' is REQUIRED."))?;
    let mut operations: Vec<Document> = Vec::new();
    for (template, item) in paths {
        if !template.starts_with('/') {
            return Err(unreadable(format!(
                "The path item name '{template}' MUST begin with a slash."
            )));
        }
        for method in METHODS {
            if let Some(operation) = item.get(method) {
                let operation = read_operation(template, method, operation, item, api, ids)?;
                if operations
                    .iter()
                    .any(|other| other.id.eq_ignore_ascii_case(&operation.id))
                {
                    return Err(unreadable(format!(
                        "The operationId '{}' is not unique.",
                        operation.name()
                    )));
                }
                operations.push(operation);
            }
        }
    }
    Ok(Imported {
        title: title.to_owned(),
        description: document["info"]["description"].as_str().map(str::to_owned),
        service_url: document["servers"][0]["url"].as_str().map(str::to_owned),
        operations,
    })
}

fn read_operation(
    template: &str,
    method: &str,
    operation: &Value,
    item: &Value,
    api: &str,
    ids: OperationIds,
) -> Result<Document, Refusal> {
    let id = operation["operationId"].as_str().map_or_else(
        || {
            format!(
                "{method}-{}",
                template.trim_matches('/').replace(['/', '{', '}', '_'], "-")
            )
        },
        str::to_owned,
    );
    let id = match ids {
        OperationIds::Kept => id,
        OperationIds::LowerCased => id.to_lowercase(),
    };
    if id.is_empty() || id.len() > 80 || id.contains(['*', '#', '&', '+', ':', '<', '>', '?', '/']) {
        return Err(unreadable(format!(
            "The operationId '{id}' is not a valid operation identifier."
        )));
    }
    let (mut in_path, mut in_query, mut in_header) = (Vec::new(), Vec::new(), Vec::new());
    for parameter in list(&item["parameters"]).chain(list(&operation["parameters"])) {
        match parameter["in"].as_str() {
            Some("path") => in_path.push(read_parameter(parameter)),
            Some("query") => in_query.push(read_parameter(parameter)),
            Some("header") => in_header.push(read_parameter(parameter)),
            _ => {}
        }
    }
    for name in template_names(template) {
        if !in_path.iter().any(|parameter| parameter["name"] == *name) {
            return Err(unreadable(format!(
                "The path parameter '{name}' of '{template}' is not declared."
            )));
        }
    }
    let summary = operation["summary"].as_str();
    let properties = json!({
        "displayName": summary.unwrap_or(&id),
        "method": method,
        "urlTemplate": template,
        "templateParameters": in_path,
        "description": operation["description"].as_str().or(summary),
        "request": {
            "description": operation["requestBody"]["description"],
            "queryParameters": in_query,
            "headers": in_header,
            "representations": representations(&operation["requestBody"]["content"]),
        },
        "responses": responses(&operation["responses"]),
    });
    let properties: Properties = properties.as_object().cloned().unwrap_or_default();
    Ok(Document::new(
        Kind::Operation,
        format!("{api}/operations/{id}"),
        normal(properties),
    ))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn read_parameter(parameter: &Value) -> Value {
    json!({
        "name": parameter["name"],
        "description": parameter["description"],
        "type": parameter["schema"]["type"].as_str().unwrap_or("string"),
        "defaultValue": parameter["schema"]["default"],
        "required": parameter["required"].as_bool().unwrap_or(parameter["in"] == "path"),
        "values": parameter["schema"]["enum"].as_array().cloned().unwrap_or_default(),
    })
}

fn representations(content: &Value) -> Vec<Value> {
    let types = content.as_object().into_iter().flat_map(Map::keys);
    types
        .map(|content_type| json!({"contentType": content_type, "examples": {}}))
        .collect()
}

fn responses(responses: &Value) -> Vec<Value> {
    let all = responses.as_object().into_iter().flatten();
    all.filter_map(|(status, response)| {
        Some(json!({
            "statusCode": status.parse::<u16>().ok()?,
            "description": response["description"],
            "representations": representations(&response["content"]),
            "headers": [],
        }))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document() -> Value {
        json!({
            "openapi": "3.0.1",
            "info": {"title": "Weather", "version": "1"},
            "paths": {
                "/mcp": {"post": {"operationId": "mcp-Post", "summary": "Call", "responses": {"200": {"description": "ok"}}}},
                "/messages/{session_id}": {"post": {
                    "operationId": "messages", "summary": "Send",
                    "parameters": [{"name": "session_id", "in": "path", "required": true, "schema": {"type": "string"}}],
                    "responses": {}
                }}
            }
        })
    }

    #[test]
    fn operations_come_from_paths() {
        let imported = import(&document().to_string(), "apis/w", OperationIds::Kept).unwrap();
        let ids: Vec<_> = imported
            .operations
            .iter()
            .map(|operation| operation.id.as_str())
            .collect();
        assert_eq!(ids, ["apis/w/operations/mcp-Post", "apis/w/operations/messages"]);
        let call = &imported.operations[0];
        assert_eq!(
            call.text("description"),
            Some("Call"),
            "a summary is copied into the description"
        );
        assert_eq!(call.text("method"), Some("POST"));
        assert_eq!(imported.service_url, None);
        let lowered = import(&document().to_string(), "apis/w", OperationIds::LowerCased).unwrap();
        assert_eq!(lowered.operations[0].name(), "mcp-post");
    }

    #[test]
    fn bad_documents_are_refused() {
        let mut undeclared = document();
        undeclared["paths"]["/messages/{session_id}"]["post"]["parameters"] = json!([]);
        let mut untitled = document();
        untitled["info"]["title"] = json!("");
        let mut twice = document();
        twice["paths"]["/mcp"]["post"]["operationId"] = json!("messages");
        for text in [
            "{".into(),
            "{}".into(),
            undeclared.to_string(),
            untitled.to_string(),
            twice.to_string(),
        ] {
            let refusal = import(&text, "apis/w", OperationIds::Kept).unwrap_err();
            assert_eq!(
                refusal.body()["error"]["details"][0]["target"],
                "representation",
                "{text}"
            );
        }
    }
}
