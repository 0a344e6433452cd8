//! Lists: filtered, paged, with a link to the next page.
//! In: a collection and the query. Out: `value`, `count` and, where there is more, `nextLink`.

use http::StatusCode;
use serde_json::{Value, json};

use super::call::Call;
use super::contract::{Frame, View, envelope, show};
use super::error::Refusal;
use super::product;
use crate::apim::answer::{self, Answer};
use crate::apim::kind::Kind;

pub(super) fn list(call: &Call<'_>, kind: Kind, collection: &str) -> Result<Answer, Refusal> {
    call.parent_exists(kind, collection)?;
    let all: Vec<Value> = members(call, kind, collection)
        .into_iter()
        .map(|member| {
            matches(&member, call.query.get("$filter").unwrap_or_default()).map(|fits| fits.then_some(member))
        })
        .filter_map(Result::transpose)
        .collect::<Result<_, _>>()?;
    let number = |name: &str, least: usize| match call.query.get(name) {
        None => Ok(None),
        Some(text) => match text.parse::<usize>() {
            Ok(number) if number >= least => Ok(Some(number)),
            _ => Err(Refusal::member(
                name,
                format!("'{name}' must be a number from {least} on."),
            )),
        },
    };
    let skip = number("$skip", 0)?.unwrap_or(0);
    let top = number("$top", 1)?;
    let size = top.unwrap_or(call.state.switches.page_size);
    let page: Vec<&Value> = all.iter().skip(skip).take(size).collect();
    let mut body = json!({"value": page, "count": all.len()});
    if top.is_none() && skip + size < all.len() {
        let next = skip + size;
        let filter = call.query.get("$filter").map_or_else(String::new, |filter| {
            format!(
                "&$filter={}",
                url::form_urlencoded::byte_serialize(filter.as_bytes()).collect::<String>()
            )
        });
        let version = call.query.get("api-version").unwrap_or_default();
        let base = call.service_url();
        body["nextLink"] = json!(format!(
            "{base}/{collection}?api-version={version}&$skip={next}{filter}"
        ));
    }
    Ok(answer::indented(StatusCode::OK, &body))
}

fn members(call: &Call<'_>, kind: Kind, collection: &str) -> Vec<Value> {
    let world = call.state.store.world();
    let service = &call.shared.config.service_path();
    let frame = |busy| Frame {
        world,
        service,
        view: View::List,
        busy,
        raw_policy: false,
    };
    let parent = collection.rsplit_once('/').map_or("", |(parent, _)| parent);
    match kind {
        Kind::ProductApi => world
            .members(&format!("{parent}/apiLinks"))
            .filter_map(|link| product::api_name(link.text("apiId")?))
            .filter_map(|name| world.get(&format!("apis/{name}")))
            .map(|api| product::show_api(parent, api, service))
            .collect(),
        Kind::ApiProduct => {
            let name = parent.rsplit('/').next().unwrap_or_default();
            let products = world
                .members("products")
                .filter(|candidate| candidate.kind == Kind::Product);
            products
                .filter(|candidate| product::link(world, &candidate.id, name).is_some())
                .map(|candidate| show(candidate, &frame(false)))
                .collect()
        }
        Kind::ProductSubscription => product::subscriptions(world, parent)
            .iter()
            .filter_map(|id| world.get(id))
            .map(|subscription| show(subscription, &frame(false)))
            .collect(),
        Kind::ApiTag | Kind::OperationTag | Kind::ProductTag | Kind::ProductGroup => world
            .members(collection)
            .map(|member| {
                let whole = if kind == Kind::ProductGroup {
                    "groups"
                } else {
                    "tags"
                };
                let whole = world
                    .get(&format!("{whole}/{}", member.name()))
                    .map(|whole| whole.properties.clone());
                envelope(member, &Value::Object(whole.unwrap_or_default()), service)
            })
            .collect(),
        Kind::Revision => vec![json!({
            "apiId": format!("/{parent};rev=1"), "apiRevision": "1", "isOnline": true, "isCurrent": true,
        })],
        _ => world
            .members(collection)
            .filter(|document| document.kind == kind)
            .map(|document| show(document, &frame(call.state.store.busy(&document.id))))
            .collect(),
    }
}

/// `field op 'value'` and `contains|startswith|endswith(field, 'value')`, joined by `and`.
fn matches(member: &Value, filter: &str) -> Result<bool, Refusal> {
    let refused = || {
        Refusal::member(
            "$filter",
            format!("The stand-in does not understand the filter {filter:?}."),
        )
    };
    if filter.is_empty() {
        return Ok(true);
    }
    for term in filter.split(" and ") {
        let term = term.trim();
        let fits = if let Some((function, rest)) = term.split_once('(') {
            let inside = rest.strip_suffix(')').ok_or_else(refused)?;
            let (first, second) = inside.split_once(',').ok_or_else(refused)?;
            let (name, wanted) = if function == "substringof" {
                (second, first)
            } else {
                (first, second)
            };
            let (value, wanted) = (field(member, name.trim()), literal(wanted));
            match function {
                "contains" | "substringof" => value.contains(&wanted),
                "startswith" => value.starts_with(&wanted),
                "endswith" => value.ends_with(&wanted),
                _ => return Err(refused()),
            }
        } else {
            let mut words = term.splitn(3, ' ');
            let (name, operator) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            let wanted = literal(words.next().ok_or_else(refused)?);
            let value = field(member, name);
            match operator {
                "eq" => value == wanted,
                "ne" => value != wanted,
                "gt" => value > wanted,
                "lt" => value < wanted,
                "ge" => value >= wanted,
                "le" => value <= wanted,
                _ => return Err(refused()),
            }
        };
        if !fits {
            return Ok(false);
        }
    }
    Ok(true)
}

fn field(member: &Value, name: &str) -> String {
    let name = name.strip_prefix("properties/").unwrap_or(name);
    let value = match &member["properties"][name] {
        Value::Null => &member[name],
        value => value,
    };
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn literal(text: &str) -> String {
    text.trim().trim_matches('\'').replace("''", "'")
}
