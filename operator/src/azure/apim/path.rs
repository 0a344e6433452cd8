//! Paths of the gateway: whether another API is in the way of the one that a server wants.
//! In: the wanted path and the inventory; out: a conflict that names the holder, or, for servers that wait for each
//! other, the write that sets one of them free.

use super::{
    document::{ServerDocuments, ServerRegistration},
    error::{ArmError, ErrorClass, RegistrationError},
    inventory::Holder,
    names::short_hash,
    plan::Step,
    request::Found,
    target::Resource,
    transport::ArmClient,
    wire::{Api, same_path},
};

/// The service accepts 400 characters.
const PATH_LIMIT: usize = 400;

/// What is to be done about the path.
#[derive(Debug)]
pub(crate) enum Way {
    Free,
    /// Servers wait in a circle for each other's paths: this one steps aside. Then it is in the way of nobody.
    Aside(Box<Step>, RegistrationError),
}

/// Before a path is taken or changed: does another API have it, or lie in it, or contain it? Asked before the first write,
/// so that a conflict leaves nothing half made. An API that has its path keeps it, whatever came later.
pub(crate) async fn find_way(
    client: &ArmClient,
    desired: &ServerRegistration,
    documents: &ServerDocuments,
    found: Option<&Found<Api>>,
) -> Result<Way, RegistrationError> {
    let wanted = documents.api.path.as_deref().unwrap_or_default();
    let current = found.and_then(|found| found.properties.path.as_deref());
    if current.is_some_and(|current| same_path(wanted, current)) {
        return Ok(Way::Free);
    }
    let inventory = client.inventory();
    inventory.refresh(client).await?;
    let own = &desired.ids.api_id;
    let Some(holder) = inventory.holder(wanted, own) else {
        return Ok(Way::Free);
    };
    // Between servers of one cluster the spec decides, and it was judged before: the other one is about to move or to go.
    let is_neighbour = holder
        .owner
        .as_ref()
        .is_some_and(|owner| owner.cluster_id == desired.owner.cluster_id);
    if !is_neighbour {
        return Err(conflict(wanted, &holder));
    }
    inventory.wish(own, wanted);
    let waits = waiting(wanted, &holder);
    match (current, found) {
        (Some(current), Some(found)) if inventory.wait_in_circle(own, wanted) => {
            let aside = Api {
                path: Some(aside(current, own)),
                ..Api::default()
            };
            let step = Step::patch(Resource::Api(own.clone()), aside, found.etag.as_ref());
            Ok(Way::Aside(Box::new(step), waits))
        }
        _ => Err(waits),
    }
}

/// A path next to the one that is left, where nothing else is.
fn aside(current: &str, api: &str) -> String {
    let suffix = format!("-moving-{}", short_hash(&["aside", api], 8));
    let current: String = current
        .trim_matches('/')
        .chars()
        .take(PATH_LIMIT - suffix.len())
        .collect();
    format!("{current}{suffix}")
}

fn conflict(wanted: &str, holder: &Holder) -> RegistrationError {
    RegistrationError::Conflict {
        resource: format!("path {wanted}"),
        problem: format!("{}; choose another gateway path", in_the_way(wanted, holder)),
    }
}

fn waiting(wanted: &str, holder: &Holder) -> RegistrationError {
    RegistrationError::Waiting {
        resource: format!("path {wanted}"),
        problem: format!(
            "{}; it is taken as soon as that one has moved or is gone",
            in_the_way(wanted, holder)
        ),
    }
}

fn in_the_way(wanted: &str, Holder { api, path, owner }: &Holder) -> String {
    let owner = owner
        .as_ref()
        .map_or_else(String::new, |owner| format!(", which belongs to {owner}"));
    if same_path(wanted, path) {
        format!("is taken by api {api}{owner}")
    } else if path.len() < wanted.len() {
        format!("lies in {path}, the path of api {api}{owner}")
    } else {
        format!("contains {path}, the path of api {api}{owner}")
    }
}

/// The path may have been taken between our check and the write, or in other letters than the lists show. The service
/// answers 400 for the member `path`, or 409.
pub(crate) fn path_conflict(error: ArmError, resource: &Resource) -> RegistrationError {
    let refused_for_path = match &error.class {
        ErrorClass::Validation { message, target } => {
            (target.as_deref() == Some("path") && message.contains("as API")) || is_same_path(message)
        }
        ErrorClass::ConflictInProgress { message } => is_same_path(message),
        _ => false,
    };
    if !refused_for_path || !matches!(resource, Resource::Api(_)) {
        return error.into();
    }
    RegistrationError::Conflict {
        resource: resource.title(),
        problem: format!(
            "cannot have its path; choose another gateway path: {}",
            error.class
        ),
    }
}

pub(crate) fn is_same_path(message: &str) -> bool {
    message.to_ascii_lowercase().contains("same path")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::apim::{Owner, inventory::overlap};

    #[test]
    fn the_holder_is_named_and_how_it_is_in_the_way() {
        let holder = |path: &str| Holder {
            api: "a".into(),
            path: path.into(),
            owner: Some(Owner {
                cluster_id: "demo".into(),
                namespace: "payments".into(),
                name: "ledger".into(),
                uid: "u".into(),
            }),
        };
        let wanted = "demo/payments/ledger";
        for (path, words) in [
            (
                "Demo/Payments/Ledger",
                "is taken by api a, which belongs to payments/ledger of cluster demo",
            ),
            ("demo/payments", "lies in demo/payments, the path of api a"),
            (
                "demo/payments/ledger/mcp",
                "contains demo/payments/ledger/mcp, the path of api a",
            ),
        ] {
            let message = conflict(wanted, &holder(path)).to_string();
            assert!(message.contains(words), "{message}");
        }
        let unmarked = Holder {
            owner: None,
            ..holder(wanted)
        };
        assert!(!conflict(wanted, &unmarked).to_string().contains("belongs"));
    }

    #[test]
    fn a_path_aside_is_in_nobodys_way() {
        let long = "p/".repeat(300);
        for current in ["demo/tools/weather", "demo", long.as_str()] {
            let aside = aside(current, "api-1");
            assert!(aside.len() <= PATH_LIMIT);
            assert!(!overlap(current, &aside), "{aside}");
        }
    }
}
