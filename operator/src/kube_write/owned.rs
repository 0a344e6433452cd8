//! Whether all that is wanted is ours still. In: what the API server keeps about who set which field (`managedFields`), what
//! is wanted and what is there; out: yes or no. Pure.
//!
//! By owner and not by value: a person who changes a field of ours takes it over with that, so it shows here at once. What
//! admission makes of our own write (a webhook, another spelling of a quantity, a cloud's rules for resources, an image that a
//! policy rewrites) stays ours, and writing it again would get the same answer for ever. What was wanted before and is wanted
//! no more is not seen here; the digest annotation tells.

use serde_json::{Map, Value};

/// Set by everyone, and owned by nobody.
const IDENTITY: [&str; 3] = ["apiVersion", "kind", "status"];
const NAMES: [&str; 2] = ["name", "namespace"];

/// Whether our entry of the managed fields (FieldsV1) has everything that is wanted.
pub fn owns(fields: &Value, wanted: &Value, present: &Value) -> bool {
    let Value::Object(members) = wanted else {
        return false;
    };
    members.iter().all(|(key, wanted)| {
        if IDENTITY.contains(&key.as_str()) {
            return true;
        }
        let present = present.get(key);
        if key == "metadata" {
            let mut wanted = wanted.clone();
            if let Some(members) = wanted.as_object_mut() {
                members.retain(|key, _| !NAMES.contains(&key.as_str()));
            }
            return member(fields, key, &wanted, present);
        }
        member(fields, key, wanted, present)
    })
}

fn member(fields: &Value, key: &str, wanted: &Value, present: Option<&Value>) -> bool {
    match fields.get(format!("f:{key}")) {
        Some(fields) => value(fields, wanted, present),
        // What says nothing is left out by the API server; it is no loss as long as nobody says otherwise.
        None => is_empty(wanted) && present.is_none_or(is_empty),
    }
}

fn value(fields: &Value, wanted: &Value, present: Option<&Value>) -> bool {
    // Without members, the value is owned as a whole.
    let Some(owned) = fields.as_object().filter(|owned| !owned.is_empty()) else {
        return fields.is_object();
    };
    match wanted {
        Value::Object(members) => members
            .iter()
            .all(|(key, wanted)| member(fields, key, wanted, present.and_then(|present| present.get(key)))),
        Value::Array(items) => items.iter().all(|wanted| item(owned, wanted, present)),
        _ => false,
    }
}

/// An item of a list that is merged: by its keys (`k:`), or, in a list that is a set, by itself (`v:`).
fn item(owned: &Map<String, Value>, wanted: &Value, present: Option<&Value>) -> bool {
    owned.iter().any(|(entry, fields)| {
        if let Some(text) = entry.strip_prefix("v:") {
            return serde_json::from_str::<Value>(text).is_ok_and(|value| value == *wanted);
        }
        let Some(Ok(Value::Object(keys))) = entry.strip_prefix("k:").map(serde_json::from_str) else {
            return false;
        };
        // A key that is not given has its default there.
        let has = |item: &Value, strict: bool| {
            keys.iter()
                .all(|(key, value)| item.get(key).map_or(!strict, |given| given == value))
        };
        let present = present.and_then(Value::as_array);
        let present = present.and_then(|items| items.iter().find(|item| has(item, true)));
        has(wanted, false) && value(fields, wanted, present)
    })
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// As a Kubernetes 1.31 answers: the form of the entries is the API server's.
    fn fields() -> Value {
        json!({
            "f:metadata": {"f:annotations": {"f:mcpfleet.dev/applied": {}}, "f:labels": {"f:a": {}},
                "f:ownerReferences": {"k:{\"uid\":\"1\"}": {}}},
            "f:spec": {"f:replicas": {}, "f:selector": {}, "f:template": {"f:spec": {
                "f:automountServiceAccountToken": {},
                "f:containers": {"k:{\"name\":\"mcp\"}": {".": {}, "f:name": {}, "f:image": {}, "f:args": {},
                    "f:env": {"k:{\"name\":\"A\"}": {".": {}, "f:name": {}, "f:value": {}}},
                    "f:ports": {"k:{\"containerPort\":8000,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}, "f:name": {}, "f:protocol": {}}},
                    "f:resources": {"f:limits": {"f:memory": {}}}}},
                "f:tolerations": {}, "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:name": {}, "f:emptyDir": {}}}}}},
        })
    }

    fn wanted() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "weather", "namespace": "tools", "annotations": {"mcpfleet.dev/applied": "d"}, "labels": {"a": "1"},
                "ownerReferences": [{"uid": "1", "name": "weather", "controller": true}]},
            "spec": {"replicas": 2, "selector": {"matchLabels": {"a": "1"}}, "template": {"spec": {
                "automountServiceAccountToken": false,
                "containers": [{"name": "mcp", "image": "i", "args": ["x"], "env": [{"name": "A", "value": "1"}],
                    "ports": [{"containerPort": 8000, "name": "mcp"}], "resources": {"limits": {"memory": "1024Mi"}}}],
                "tolerations": [{"key": "a"}], "volumes": [{"name": "tmp", "emptyDir": {}}], "hostAliases": []}}},
        })
    }

    fn without(path: &str) -> Value {
        let mut fields = fields();
        let (parent, key) = path.rsplit_once('/').unwrap();
        fields
            .pointer_mut(parent)
            .unwrap()
            .as_object_mut()
            .unwrap()
            .remove(key)
            .unwrap();
        fields
    }

    #[test]
    fn what_admission_made_of_our_write_is_ours() {
        let mut present = wanted();
        let container = &mut present["spec"]["template"]["spec"]["containers"][0];
        container["image"] = json!("mirror.example.com/i");
        container["resources"] = json!({"limits": {"memory": "1Gi", "ephemeral-storage": "1Gi"}});
        present["spec"]["template"]["spec"]["tolerations"] = json!([{"key": "a"}, {"key": "webhook"}]);
        assert!(owns(&fields(), &wanted(), &present));
    }

    #[test]
    fn what_somebody_has_taken_over_is_not() {
        let pod = "/f:spec/f:template/f:spec";
        let container = format!("{pod}/f:containers/k:{{\"name\":\"mcp\"}}");
        for lost in [
            "/f:spec/f:replicas".to_owned(),
            "/f:metadata/f:labels".to_owned(),
            format!("{pod}/f:tolerations"),
            format!("{container}/f:image"),
            format!("{container}/f:env/k:{{\"name\":\"A\"}}/f:value"),
            format!("{container}/f:resources"),
            format!("{pod}/f:containers"),
        ] {
            assert!(!owns(&without(&lost), &wanted(), &wanted()), "{lost}");
        }
        assert!(!owns(&json!({}), &wanted(), &wanted()));
    }

    #[test]
    fn a_no_that_is_left_out_is_kept_until_somebody_says_yes() {
        let lost = without("/f:spec/f:template/f:spec/f:automountServiceAccountToken");
        assert!(owns(&lost, &wanted(), &wanted()));
        let mut present = wanted();
        present["spec"]["template"]["spec"]["automountServiceAccountToken"] = json!(true);
        assert!(!owns(&lost, &wanted(), &present));
    }
}
