//! What derive cannot say about a definition. In: the derived definition. Out: the one that is shipped.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSON, JSONSchemaProps, JSONSchemaPropsOrArray,
};
use schemars::{Schema, json_schema};

/// Tidies the schema: formats that the API server does not know are dropped, since it warns about each of them. And an
/// object has a status before anybody has looked at it, or kstatus would call it Current; as Flux does with its kinds.
pub(crate) fn finish(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        if let Some(schema) = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
        {
            visit(schema);
            let status = schema.properties.as_mut().and_then(|all| all.get_mut("status"));
            if let Some(status) = status {
                status.default = Some(JSON(serde_json::json!({"observedGeneration": -1})));
            }
        }
    }
    crd
}

fn visit(schema: &mut JSONSchemaProps) {
    if schema
        .format
        .as_deref()
        .is_some_and(|format| format.starts_with("uint"))
    {
        schema.format = None;
    }
    for property in schema
        .properties
        .iter_mut()
        .flat_map(|properties| properties.values_mut())
    {
        visit(property);
    }
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = schema.items.as_mut() {
        visit(items);
    }
}

/// `metav1.Condition` as a list keyed by `type`, so that two writers never drop each other's entries.
pub(crate) fn conditions(generator: &mut schemars::SchemaGenerator) -> Schema {
    let item = generator
        .subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition>()
        .to_value();
    json_schema!({
        "type": "array",
        "description": "What is known about the object: each condition once, keyed by its type.",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    })
}
