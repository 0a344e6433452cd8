//! Whether a present object already has everything that is wanted. In: two JSON values; out: yes or no. Pure.
//!
//! What the API server adds (defaults, status) and what others add (sidecars, annotations, a restart mark) does not
//! matter. What was wanted before and is wanted no more is not seen here; the digest annotation tells.

use serde_json::Value;

/// Whether `present` has all of `wanted`.
pub fn covers(present: &Value, wanted: &Value) -> bool {
    match (present, wanted) {
        (Value::Object(present), Value::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| match present.get(key) {
                Some(present) if key == "requests" || key == "limits" => quantities(present, wanted),
                Some(present) => covers(present, wanted),
                None => is_empty(wanted),
            })
        }
        (Value::Array(present), Value::Array(wanted)) => lists(present, wanted),
        _ => present == wanted,
    }
}

/// Lists of named things are compared by name, as the API server merges them; other lists in their order.
fn lists(present: &[Value], wanted: &[Value]) -> bool {
    let name = |value: &Value| value.get("name").cloned();
    let named = !wanted.is_empty() && wanted.iter().all(|value| name(value).is_some());
    if named {
        return wanted.iter().all(|wanted| {
            present
                .iter()
                .any(|present| name(present) == name(wanted) && covers(present, wanted))
        });
    }
    present.len() == wanted.len()
        && present
            .iter()
            .zip(wanted)
            .all(|(present, wanted)| covers(present, wanted))
}

/// The API server leaves empty values out.
fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::String(text) => text.is_empty(),
        Value::Array(values) => values.is_empty(),
        Value::Object(members) => members.values().all(is_empty),
    }
}

/// Resource quantities are rewritten by the API server (`0.5` to `500m`), so their amounts are compared.
fn quantities(present: &Value, wanted: &Value) -> bool {
    let (Value::Object(present), Value::Object(wanted)) = (present, wanted) else {
        return present == wanted;
    };
    present.len() == wanted.len()
        && wanted.iter().all(|(key, wanted)| {
            present
                .get(key)
                .is_some_and(|present| present == wanted || same_amount(present, wanted))
        })
}

fn same_amount(left: &Value, right: &Value) -> bool {
    match (left.as_str().and_then(amount), right.as_str().and_then(amount)) {
        (Some(left), Some(right)) => (left - right).abs() <= f64::EPSILON * left.abs().max(right.abs()),
        _ => false,
    }
}

/// The amount of a quantity: a decimal number and a suffix.
fn amount(text: &str) -> Option<f64> {
    const SUFFIXES: [(&str, f64); 15] = [
        ("Ki", 1024.0),
        ("Mi", 1_048_576.0),
        ("Gi", 1_073_741_824.0),
        ("Ti", 1_099_511_627_776.0),
        ("Pi", 1_125_899_906_842_624.0),
        ("Ei", 1_152_921_504_606_846_976.0),
        ("n", 1e-9),
        ("u", 1e-6),
        ("m", 1e-3),
        ("k", 1e3),
        ("M", 1e6),
        ("G", 1e9),
        ("T", 1e12),
        ("P", 1e15),
        ("E", 1e18),
    ];
    let found = SUFFIXES
        .iter()
        .find_map(|(suffix, factor)| Some((text.strip_suffix(suffix)?, *factor)));
    let (number, factor) = found.unwrap_or((text, 1.0));
    number.parse::<f64>().ok().map(|number| number * factor)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn additions_of_others_are_tolerated_and_changes_are_not() {
        let wanted = json!({"spec": {"replicas": 2, "containers": [{"name": "mcp", "image": "a", "env": [{"name": "A", "value": "1"}]}],
            "command": ["x", "y"], "limits": {"cpu": "0.5", "memory": "128Mi"}}});
        let table = [
            ("itself", wanted.clone(), true),
            (
                "a sidecar, an env of a webhook, defaults and a canonical quantity",
                json!({"spec": {"replicas": 2, "paused": false, "command": ["x", "y"], "limits": {"cpu": "500m", "memory": "128Mi"},
                    "containers": [{"name": "sidecar"}, {"name": "mcp", "image": "a", "terminationMessagePath": "/dev/x",
                        "env": [{"name": "HTTP_PROXY", "value": "p"}, {"name": "A", "value": "1"}]}]}}),
                true,
            ),
            (
                "another image",
                json!({"spec": {"replicas": 2, "command": ["x", "y"], "limits": {"cpu": "500m", "memory": "128Mi"},
                "containers": [{"name": "mcp", "image": "b", "env": [{"name": "A", "value": "1"}]}]}}),
                false,
            ),
            (
                "a longer plain list",
                json!({"spec": {"replicas": 2, "command": ["x", "y", "z"], "limits": {"cpu": "0.5", "memory": "128Mi"},
                "containers": [{"name": "mcp", "image": "a", "env": [{"name": "A", "value": "1"}]}]}}),
                false,
            ),
            (
                "another limit",
                json!({"spec": {"replicas": 2, "command": ["x", "y"], "limits": {"cpu": "501m", "memory": "128Mi"},
                "containers": [{"name": "mcp", "image": "a", "env": [{"name": "A", "value": "1"}]}]}}),
                false,
            ),
            ("a missing member", json!({"spec": {}}), false),
        ];
        for (what, present, same) in table {
            assert_eq!(covers(&present, &wanted), same, "{what}");
        }
        assert!(covers(
            &json!({}),
            &json!({"readOnly": false, "list": [], "map": {"zero": 0}})
        ));
        assert!(!covers(&json!({}), &json!({"readOnly": true})));
    }
}
