//! The suite's resources: a URI goes in, contents come out, or the error that names it.

use super::media::PNG;
use rmcp::ErrorData;
use rmcp::model::{ReadResourceResult, Resource, ResourceContents, ResourceTemplate};
use serde_json::json;

const TEXT: &str = "test://static-text";
const BINARY: &str = "test://static-binary";
const WATCHED: &str = "test://watched-resource";

pub(super) fn list() -> Vec<Resource> {
    let resource = |uri: &str, name: &str, description: &str, kind: &str| {
        Resource::new(uri, name)
            .with_description(description)
            .with_mime_type(kind)
    };
    vec![
        resource(TEXT, "static-text", "A text that never changes.", "text/plain"),
        resource(
            BINARY,
            "static-binary",
            "An image that never changes.",
            "image/png",
        ),
        resource(
            WATCHED,
            "watched-resource",
            "A text that can be subscribed to.",
            "text/plain",
        ),
    ]
}

pub(super) fn templates() -> Vec<ResourceTemplate> {
    vec![
        ResourceTemplate::new("test://template/{id}/data", "template-data")
            .with_description("Data for any id.")
            .with_mime_type("application/json"),
    ]
}

pub(super) fn read(uri: &str) -> Result<ReadResourceResult, ErrorData> {
    let contents = match uri {
        TEXT => ResourceContents::text("This is the content of the static text resource.", uri),
        BINARY => ResourceContents::blob(PNG, uri).with_mime_type("image/png"),
        WATCHED => ResourceContents::text("This is the content of the watched resource.", uri),
        _ => {
            let id = uri
                .strip_prefix("test://template/")
                .and_then(|rest| rest.strip_suffix("/data"))
                .filter(|id| !id.is_empty() && !id.contains('/'))
                .ok_or_else(|| not_found(uri))?;
            let data = json!({"id": id, "templateTest": true, "data": format!("Data for ID: {id}")});
            ResourceContents::text(data.to_string(), uri).with_mime_type("application/json")
        }
    };
    Ok(ReadResourceResult::new(vec![contents]))
}

/// Subscriptions are kept for a session, so only to what there is: a client cannot make the set of them grow.
pub(super) fn expect_listed(uri: &str) -> Result<(), ErrorData> {
    if [TEXT, BINARY, WATCHED].contains(&uri) {
        Ok(())
    } else {
        Err(not_found(uri))
    }
}

fn not_found(uri: &str) -> ErrorData {
    ErrorData::resource_not_found("Resource not found", Some(json!({"uri": uri})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_that_is_listed_can_be_read() {
        for resource in list() {
            assert!(read(&resource.uri).is_ok(), "{}", resource.uri);
            assert!(expect_listed(&resource.uri).is_ok(), "{}", resource.uri);
        }
        assert!(read("test://template/7/data").is_ok());
        for uri in [
            "test://nothing",
            "test://template//data",
            "test://template/a/b/data",
            "",
        ] {
            assert_eq!(read(uri).unwrap_err().data, Some(json!({"uri": uri})));
            assert!(expect_listed(uri).is_err(), "{uri}");
        }
    }
}
