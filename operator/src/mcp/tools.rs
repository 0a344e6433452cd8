//! Tools and the digests of their definitions. In: the pages of tools/list; out: names and digests, sorted. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mcp_fleet_crds::Tool;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// Longest name that is kept; the specification recommends at most 128 characters (2025-11-25, server/tools).
const MAX_NAME: usize = 256;

/// A page of tools/list: its tools and the cursor of the next page. `None` when it is not one.
pub(super) fn page(result: &Value) -> Option<(Vec<Tool>, Option<String>)> {
    let tools = result
        .get("tools")?
        .as_array()?
        .iter()
        .map(tool)
        .collect::<Option<Vec<_>>>()?;
    let cursor = result
        .get("nextCursor")
        .and_then(Value::as_str)
        .filter(|cursor| !cursor.is_empty());
    Some((tools, cursor.map(str::to_owned)))
}

fn tool(definition: &Value) -> Option<Tool> {
    let name = definition
        .get("name")?
        .as_str()
        .filter(|name| !name.is_empty() && name.len() <= MAX_NAME)?;
    Some(Tool {
        name: name.to_owned(),
        digest: digest(definition),
    })
}

/// Sorted by name, so that the server's order is no change.
pub(super) fn sorted(tools: Vec<Tool>) -> Vec<Tool> {
    let by_name: BTreeMap<String, Tool> = tools.into_iter().map(|tool| (tool.name.clone(), tool)).collect();
    by_name.into_values().collect()
}

/// `sha256:` and the hash of the definition's canonical JSON: members sorted, no white space. `_meta` stays out: it is
/// not what a model reads, and may differ from call to call.
fn digest(definition: &Value) -> String {
    let mut text = String::new();
    let mut definition = definition.clone();
    if let Value::Object(members) = &mut definition {
        members.remove("_meta");
    }
    write_canonical(&mut text, &definition);
    format!("sha256:{}", hex::encode(Sha256::digest(text)))
}

/// Sorts members itself: whether `serde_json`'s map is sorted depends on features that any dependency may turn on.
fn write_canonical(text: &mut String, value: &Value) {
    match value {
        Value::Object(members) => {
            let sorted: BTreeMap<_, _> = members.iter().collect();
            text.push('{');
            for (index, (name, member)) in sorted.into_iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_scalar(text, &Value::String(name.clone()));
                text.push(':');
                write_canonical(text, member);
            }
            text.push('}');
        }
        Value::Array(items) => {
            text.push('[');
            for (index, item) in items.iter().enumerate() {
                text.push_str(if index == 0 { "" } else { "," });
                write_canonical(text, item);
            }
            text.push(']');
        }
        scalar => write_scalar(text, scalar),
    }
}

fn write_scalar(text: &mut String, value: &Value) {
    // Writing to a String cannot fail.
    let _ = write!(text, "{value}");
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_digest_ignores_order_and_sees_meaning() {
        let one =
            r#"{"name":"a","description":"d","inputSchema":{"type":"object","properties":{"b":{},"a":{}}}}"#;
        let two = r#"{ "inputSchema": {"properties":{"a":{},"b":{}},"type":"object"}, "description":"d", "name":"a", "_meta":{"x":1}}"#;
        let other =
            r#"{"name":"a","description":"D","inputSchema":{"type":"object","properties":{"b":{},"a":{}}}}"#;
        let digest = |text: &str| digest(&serde_json::from_str(text).unwrap());
        assert_eq!(digest(one), digest(two));
        assert_ne!(digest(one), digest(other));
        let expected = format!(
            "sha256:{}",
            hex::encode(Sha256::digest(r#"{"a":[1,null,"x\""],"b":{}}"#))
        );
        assert_eq!(
            super::digest(&json!({"b": {}, "a": [1, null, "x\""], "_meta": {}})),
            expected
        );
    }

    #[test]
    fn pages_are_read_and_refused() {
        let (tools, cursor) =
            page(&json!({"tools": [{"name": "b"}, {"name": "a"}], "nextCursor": "2"})).unwrap();
        assert_eq!(cursor.as_deref(), Some("2"));
        assert_eq!(
            sorted(tools)
                .iter()
                .map(|tool| tool.name.as_str())
                .collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert_eq!(page(&json!({"tools": []})), Some((vec![], None)));
        for broken in [
            json!({}),
            json!({"tools": 1}),
            json!({"tools": [{"title": "x"}]}),
            json!({"tools": [{"name": ""}]}),
        ] {
            assert_eq!(page(&broken), None, "{broken}");
        }
    }
}
