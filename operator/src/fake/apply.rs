//! Server-side apply by one field manager, as the API server does it. In: an object, what the manager applied before and what it
//! applies now; out: the object. Pure.
//!
//! What the manager sent before and sends no more goes, unless somebody else has set it to something else meanwhile; what
//! others added stays. Lists of named things are merged by their keys, all other lists are one value.

use serde_json::{Map, Value};

/// Lists that are merged by keys, and those keys, as the API declares them (`x-kubernetes-list-map-keys`). A list whose
/// items lack the keys, such as a pod's `ports` and a Service's, is looked up further.
const KEYED: [(&str, &[&str]); 13] = [
    ("containers", &["name"]),
    ("initContainers", &["name"]),
    ("volumes", &["name"]),
    ("env", &["name"]),
    ("imagePullSecrets", &["name"]),
    ("ports", &["containerPort", "protocol"]),
    ("ports", &["port", "protocol"]),
    ("volumeMounts", &["mountPath"]),
    ("topologySpreadConstraints", &["topologyKey", "whenUnsatisfiable"]),
    ("hostAliases", &["ip"]),
    ("ownerReferences", &["uid"]),
    ("conditions", &["type"]),
    ("endpoints", &["port"]),
];

/// Maps that are one value (`x-kubernetes-map-type: atomic`).
const ATOMIC: [&str; 7] = [
    "nodeSelector",
    "selector",
    "labelSelector",
    "secretKeyRef",
    "configMapKeyRef",
    "fieldRef",
    "resourceFieldRef",
];

/// Applies.
pub(super) fn apply(object: &mut Value, before: &Value, wanted: &Value) {
    take_away(object, before, wanted);
    merge("", object, wanted);
}

/// Removes what was applied before and is not wanted now.
fn take_away(present: &mut Value, before: &Value, wanted: &Value) {
    let (Value::Object(present), Value::Object(before)) = (present, before) else {
        return;
    };
    for (key, before) in before {
        let Some(member) = present.get_mut(key) else {
            continue;
        };
        let wanted = wanted.get(key).unwrap_or(&Value::Null);
        let gone = take_away_member(key, member, before, wanted);
        if gone && wanted.is_null() {
            present.remove(key);
        }
    }
}

/// The same for one member. Whether nothing is left of it.
fn take_away_member(key: &str, present: &mut Value, before: &Value, wanted: &Value) -> bool {
    match (&mut *present, before) {
        (Value::Array(items), Value::Array(before)) if keys(key, before).is_some() => {
            let keys = keys(key, before).unwrap_or_default();
            for before in before {
                let wanted = wanted.as_array().and_then(|items| find(items, keys, before));
                let Some(place) = items.iter().position(|item| same(item, before, keys)) else {
                    continue;
                };
                take_away(&mut items[place], before, wanted.unwrap_or(&Value::Null));
                // With the keys taken away too, only what others have put into the item is left of it.
                let empty = items[place].as_object().is_none_or(Map::is_empty);
                match (wanted, empty) {
                    (None, true) => drop(items.remove(place)),
                    (None, false) => {
                        for key in keys {
                            items[place][*key] = before[*key].clone();
                        }
                    }
                    (Some(_), _) => {}
                }
            }
            items.is_empty()
        }
        (Value::Object(_), Value::Object(_)) if !ATOMIC.contains(&key) => {
            take_away(present, before, wanted);
            present.as_object().is_none_or(Map::is_empty)
        }
        // A value that somebody has changed since is theirs.
        _ => present == before,
    }
}

fn merge(key: &str, present: &mut Value, wanted: &Value) {
    match wanted {
        Value::Object(members) if !ATOMIC.contains(&key) => {
            if !present.is_object() {
                *present = Value::Object(Map::new());
            }
            let Some(present) = present.as_object_mut() else {
                return;
            };
            for (key, wanted) in members.iter().filter(|(_, wanted)| !wanted.is_null()) {
                merge(key, present.entry(key.clone()).or_insert(Value::Null), wanted);
            }
        }
        Value::Array(items) if keys(key, items).is_some() => {
            let keys = keys(key, items).unwrap_or_default();
            let mut others = present.as_array().cloned().unwrap_or_default();
            let mut merged = Vec::new();
            for wanted in items {
                let place = others.iter().position(|item| same(item, wanted, keys));
                let mut item = place.map_or(Value::Null, |place| others.remove(place));
                merge("", &mut item, wanted);
                merged.push(item);
            }
            merged.extend(others);
            *present = Value::Array(merged);
        }
        _ => present.clone_from(wanted),
    }
}

/// What a manager owns, as the API server tells it (`FieldsV1`).
pub(super) fn fields(applied: &Value) -> Value {
    let mut wanted = applied.clone();
    if let Some(members) = wanted.as_object_mut() {
        members.retain(|key, _| !["apiVersion", "kind", "status"].contains(&key.as_str()));
    }
    if let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.retain(|key, _| !["name", "namespace", "uid"].contains(&key.as_str()));
    }
    fields_of("", &wanted)
}

fn fields_of(key: &str, value: &Value) -> Value {
    match value {
        Value::Object(members) if !ATOMIC.contains(&key) => members
            .iter()
            .map(|(key, value)| (format!("f:{key}"), fields_of(key, value)))
            .collect(),
        Value::Array(items) if keys(key, items).is_some() => {
            let keys = keys(key, items).unwrap_or_default();
            let entry = |item: &Value| {
                let of_item: Map<String, Value> = keys
                    .iter()
                    .map(|key| ((*key).to_owned(), item[*key].clone()))
                    .collect();
                let mut fields = fields_of("", item);
                fields["."] = Value::Object(Map::new());
                (format!("k:{}", Value::Object(of_item)), fields)
            };
            items.iter().map(entry).collect()
        }
        _ => Value::Object(Map::new()),
    }
}

/// What is left of what a manager has applied after somebody else has changed the object: what he did not touch.
pub(super) fn kept(applied: &Value, before: &Value, after: &Value) -> Value {
    kept_of("", applied, before, after).unwrap_or(Value::Null)
}

fn kept_of(key: &str, applied: &Value, before: &Value, after: &Value) -> Option<Value> {
    match applied {
        Value::Object(members) if !ATOMIC.contains(&key) && !members.is_empty() => {
            let kept: Map<String, Value> = members
                .iter()
                .filter_map(|(key, applied)| {
                    let value = kept_of(key, applied, before.get(key)?, after.get(key)?)?;
                    Some((key.clone(), value))
                })
                .collect();
            (!kept.is_empty()).then_some(Value::Object(kept))
        }
        Value::Array(items) if keys(key, items).is_some() => {
            let keys = keys(key, items).unwrap_or_default();
            let kept = |item: &Value| {
                let before = find(before.as_array()?, keys, item)?;
                kept_of("", item, before, find(after.as_array()?, keys, item)?)
            };
            let kept: Vec<Value> = items.iter().filter_map(kept).collect();
            (!kept.is_empty()).then_some(Value::Array(kept))
        }
        _ => (before == after).then(|| applied.clone()),
    }
}

/// The keys of a list's items, if it is a list of that kind.
fn keys(list: &str, items: &[Value]) -> Option<&'static [&'static str]> {
    let has = |keys: &[&str]| {
        let all = |item: &Value| keys.iter().all(|key| item.get(key).is_some());
        !items.is_empty() && items.iter().all(all)
    };
    KEYED
        .iter()
        .find(|(name, keys)| *name == list && has(keys))
        .map(|(_, keys)| *keys)
}

fn find<'a>(items: &'a [Value], keys: &[&str], like: &Value) -> Option<&'a Value> {
    items.iter().find(|item| same(item, like, keys))
}

fn same(left: &Value, right: &Value, keys: &[&str]) -> bool {
    keys.iter().all(|key| left.get(key) == right.get(key))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// What is left when `first` was applied, `others` then stood there, and `second` is applied.
    fn after(first: &Value, others: Value, second: &Value) -> Value {
        let mut object = others;
        apply(&mut object, first, second);
        object
    }

    #[test]
    fn what_is_sent_no_more_goes_and_what_is_others_stays() {
        let table = [
            (
                "a map of which others have an entry",
                json!({"annotations": {"a": "1", "b": "2"}}),
                json!({"annotations": {"a": "1", "b": "2", "theirs": "3"}}),
                json!({"annotations": {"b": "2"}}),
                json!({"annotations": {"b": "2", "theirs": "3"}}),
            ),
            (
                "a map that was all ours",
                json!({"annotations": {"a": "1"}, "name": "x"}),
                json!({"annotations": {"a": "1"}, "name": "x"}),
                json!({"name": "x"}),
                json!({"name": "x"}),
            ),
            (
                "a plain list is one value",
                json!({"loadBalancerSourceRanges": ["a", "b"], "args": ["x"]}),
                json!({"loadBalancerSourceRanges": ["a", "b"], "args": ["x"]}),
                json!({"args": ["y"]}),
                json!({"args": ["y"]}),
            ),
            (
                "a value that somebody changed is theirs, and is taken back by sending it",
                json!({"replicas": 2, "paused": true}),
                json!({"replicas": 5, "paused": false}),
                json!({"paused": true}),
                json!({"replicas": 5, "paused": true}),
            ),
            (
                "containers, their env and ports, by their keys",
                json!({"containers": [{"name": "mcp", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}],
                    "ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 2, "protocol": "TCP"}]}, {"name": "old", "image": "o"}]}),
                json!({"containers": [{"name": "mcp", "env": [{"name": "A", "value": "1"}, {"name": "B", "value": "2"}, {"name": "C", "value": "3"}],
                    "ports": [{"containerPort": 1, "protocol": "TCP"}, {"containerPort": 2, "protocol": "TCP"}]},
                    {"name": "old", "image": "o"}, {"name": "injected", "image": "i"}]}),
                json!({"containers": [{"name": "mcp", "env": [{"name": "A", "value": "9"}], "ports": [{"containerPort": 2, "protocol": "TCP"}]}]}),
                json!({"containers": [{"name": "mcp", "env": [{"name": "A", "value": "9"}, {"name": "C", "value": "3"}],
                    "ports": [{"containerPort": 2, "protocol": "TCP"}]}, {"name": "injected", "image": "i"}]}),
            ),
            (
                "an item of ours into which others have put something stays as theirs",
                json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y"}]}),
                json!({"containers": [{"name": "a", "image": "x"}, {"name": "b", "image": "y", "env": [{"name": "P"}]}]}),
                json!({"containers": [{"name": "a", "image": "x"}]}),
                json!({"containers": [{"name": "a", "image": "x"}, {"env": [{"name": "P"}], "name": "b"}]}),
            ),
            (
                "a selector of a Service is one value",
                json!({"selector": {"a": "1"}}),
                json!({"selector": {"a": "1", "b": "2"}}),
                json!({"selector": {"c": "3"}}),
                json!({"selector": {"c": "3"}}),
            ),
        ];
        for (what, first, others, second, expected) in table {
            assert_eq!(after(&first, others, &second), expected, "{what}");
        }
    }

    #[test]
    fn what_was_never_applied_by_us_is_never_taken_away() {
        let present = json!({"spec": {"type": "LoadBalancer", "clusterIP": "10.0.0.1"}});
        let applied = after(&Value::Null, present, &json!({"spec": {"type": "ClusterIP"}}));
        assert_eq!(
            applied,
            json!({"spec": {"type": "ClusterIP", "clusterIP": "10.0.0.1"}})
        );
    }
}
