//! Associations: APIs and groups of products, tags of APIs, operations and products. They take no `If-Match`.
//! In: the call. Out: an answer or a refusal.

use http::StatusCode;
use serde_json::{Map, Value};

use super::call::Call;
use super::contract::{View, envelope};
use super::error::Refusal;
use super::product;
use crate::apim::answer::{self, Answer};
use crate::apim::kind::Kind;
use crate::apim::store::{Change, Document, Properties, World};

/// The two ends of an association id such as `products/p/apis/a`: the owner's id and the member's name.
fn ends(id: &str) -> (String, String) {
    let parts: Vec<&str> = id.split('/').collect();
    let owner = parts[..parts.len().saturating_sub(2)].join("/");
    (owner, parts.last().copied().unwrap_or_default().to_owned())
}

/// The entity that is associated: an API, a group or a tag.
fn member(world: &World, kind: Kind, name: &str) -> Result<Document, Refusal> {
    let (collection, member) = match kind {
        Kind::ProductApi => ("apis", Kind::Api),
        Kind::ProductGroup => ("groups", Kind::Group),
        _ => ("tags", Kind::Tag),
    };
    let found = world.get(&format!("{collection}/{name}"));
    found
        .map(|document| (**document).clone())
        .ok_or_else(|| Refusal::not_found(member))
}

fn there(world: &World, kind: Kind, id: &str) -> bool {
    let (owner, name) = ends(id);
    match kind {
        Kind::ProductApi => product::link(world, &owner, &name).is_some(),
        _ => world.get(id).is_some(),
    }
}

/// Recorded for the APIs of a product: HEAD 204, 404 when there is no association.
pub(super) fn get(call: &Call<'_>, kind: Kind, id: &str, head: bool) -> Result<Answer, Refusal> {
    let world = call.state.store.world();
    if !there(world, kind, id) {
        return Err(Refusal::not_found(kind));
    }
    if matches!(kind, Kind::ProductApi | Kind::ProductGroup) {
        return Ok(answer::empty(StatusCode::NO_CONTENT));
    }
    let (_, name) = ends(id);
    let tag = member(world, kind, &name)?;
    let mut answer = if head {
        answer::empty(StatusCode::OK)
    } else {
        show_tag(call, StatusCode::OK, kind, id, &tag)
    };
    answer::set(&mut answer, "etag", &format!("\"{}\"", tag.etag_text()));
    Ok(answer)
}

fn show_tag(call: &Call<'_>, status: StatusCode, kind: Kind, id: &str, tag: &Document) -> Answer {
    let shown = Document::new(kind, id, tag.properties.clone());
    let service = call.shared.config.service_path();
    answer::indented(
        status,
        &envelope(&shown, &Value::Object(shown.properties.clone()), &service),
    )
}

pub(super) fn put(call: &mut Call<'_>, kind: Kind, id: &str) -> Result<Answer, Refusal> {
    let (owner, name) = ends(id);
    let world = call.state.store.world();
    let member = member(world, kind, &name)?;
    let status = if there(world, kind, id) {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    let service = call.shared.config.service_path();
    if status == StatusCode::CREATED {
        let document = match kind {
            Kind::ProductApi => product::new_link(&service, &owner, member.name(), &member),
            _ => Document::new(kind, id, Properties::new()),
        };
        call.apply(Change {
            put: vec![document],
            remove: vec![],
        });
    }
    let mut answer = match kind {
        Kind::ProductApi => answer::indented(status, &product::show_api(&owner, &member, &service)),
        _ => show_tag(call, status, kind, id, &member),
    };
    answer::set(&mut answer, "etag", &format!("\"{}\"", member.etag_text()));
    Ok(answer)
}

/// A link by an id of its own. A second link to the same API is a conflict.
pub(super) fn put_link(call: &mut Call<'_>, id: &str, sent: &Map<String, Value>) -> Result<Answer, Refusal> {
    let (owner, link_id) = ends(id);
    let target = sent.get("apiId").and_then(Value::as_str).unwrap_or_default();
    let name = product::api_name(target)
        .ok_or_else(|| Refusal::member("apiId", "'apiId' must be the resource id of an API."))?
        .to_owned();
    let world = call.state.store.world();
    let api = world.get(&format!("apis/{name}")).map(|api| (**api).clone());
    let api = api.ok_or_else(|| Refusal::not_found(Kind::Api))?;
    let existing = world.get(id).is_some();
    if let Some(other) = product::link(world, &owner, &name)
        && !other.id.eq_ignore_ascii_case(id)
    {
        let message = "The API is linked to the product already.";
        return Err(Refusal::new(StatusCode::CONFLICT, "Conflict", message));
    }
    if !existing {
        let link = product::new_link(&call.shared.config.service_path(), &owner, &link_id, &api);
        call.apply(Change {
            put: vec![link],
            remove: vec![],
        });
    }
    let status = if existing {
        StatusCode::OK
    } else {
        StatusCode::CREATED
    };
    call.answer(status, id, View::Put)
}

/// Recorded: 200 when it was there, 204 otherwise (guessed).
pub(super) fn delete(call: &mut Call<'_>, kind: Kind, id: &str) -> Answer {
    let (owner, name) = ends(id);
    let world = call.state.store.world();
    let stored = match kind {
        Kind::ProductApi => product::link(world, &owner, &name).map(|link| link.id.clone()),
        _ => world.get(id).map(|document| document.id.clone()),
    };
    let Some(stored) = stored else {
        return answer::empty(StatusCode::NO_CONTENT);
    };
    call.apply(Change {
        put: vec![],
        remove: vec![stored],
    });
    answer::empty(StatusCode::OK)
}

/// Ids of the places where a tag is assigned.
pub(super) fn assignments(world: &World, tag: &str) -> Vec<String> {
    world
        .all()
        .filter(|document| {
            matches!(
                document.kind,
                Kind::ApiTag | Kind::OperationTag | Kind::ProductTag
            )
        })
        .filter(|document| document.name().eq_ignore_ascii_case(tag))
        .map(|document| document.id.clone())
        .collect()
}

/// A new product is visible to the administrators (recorded in the answer to its PUT).
pub(super) fn first_group(product: &str) -> Document {
    Document::new(
        Kind::ProductGroup,
        format!("{product}/groups/administrators"),
        Properties::new(),
    )
}
