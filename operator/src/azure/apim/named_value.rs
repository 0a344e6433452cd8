//! The secret of a gateway, as a named value that policies refer to by its name.
//! In: [`SecretRegistration`]; out: what was written, or a conflict and no write. And the way back.
//!
//! `secret: true`: no read shows the value, only `listValue`, which is an action of its own that readers lack. Tags tell
//! whose it is, which number it has, and a print of it, so that another value is noticed without asking for it.

use super::{
    ensure::write,
    error::{ArmError, ErrorClass, RegistrationError},
    mark::{self, Owner, Verdict},
    operation::Outcome,
    plan::{Step, check_verdict},
    remove::{Removal, delete},
    request::Found,
    secret::SecretString,
    target::Resource,
    transport::ArmClient,
    wire::NamedValue,
};

const NUMBER: &str = "number-";
const PRINT: &str = "print-";

/// What a gateway wants to have as its secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SecretRegistration {
    /// The gateway. It is in no namespace, so that member is empty.
    pub owner: Owner,
    /// Id and display name, by which policies refer to it.
    pub name: String,
    pub number: i64,
    pub value: SecretString,
}

impl SecretRegistration {
    fn document(&self) -> NamedValue {
        let value = self.value.expose();
        NamedValue {
            display_name: Some(self.name.clone()),
            value: Some(value.to_owned()),
            secret: Some(true),
            tags: Some(vec![
                mark::label(&self.owner, None),
                format!("{NUMBER}{}", self.number),
                format!("{PRINT}{}", mark::key_print(value)),
            ]),
        }
    }
}

/// The number of the secret that the service has, if it has one of ours.
pub async fn known_number(
    client: &ArmClient,
    owner: &Owner,
    name: &str,
) -> Result<Option<i64>, RegistrationError> {
    let resource = Resource::NamedValue(name.to_owned());
    let found = client.get::<NamedValue>(&resource).await?;
    Ok(found
        .filter(|found| verdict(found, owner).is_ours())
        .and_then(|found| {
            let tags = found.properties.tags.unwrap_or_default();
            tags.iter().find_map(|tag| tag.strip_prefix(NUMBER)?.parse().ok())
        }))
}

/// Makes the named value as desired. Answers what was written, or `None`; `Pending` while the service is at it.
pub async fn ensure_secret(
    client: &ArmClient,
    desired: &SecretRegistration,
) -> Result<Outcome<Option<String>>, RegistrationError> {
    let resource = Resource::NamedValue(desired.name.clone());
    let found = client.get::<NamedValue>(&resource).await?;
    let Some(step) = plan(desired, found.as_ref())? else {
        return Ok(Outcome::Done(None));
    };
    Ok(match write(client, &step).await? {
        (_, None) => Outcome::Done(Some(step.change)),
        (_, Some(operation)) => Outcome::Pending(operation),
    })
}

/// The one write that is due, if any. Pure. Always whole: a PUT of a named value resets nothing that is not ours.
fn plan(
    desired: &SecretRegistration,
    found: Option<&Found<NamedValue>>,
) -> Result<Option<Step>, RegistrationError> {
    let resource = Resource::NamedValue(desired.name.clone());
    let wanted = desired.document();
    let Some(found) = found else {
        return Ok(Some(Step::put(resource, wanted, None)));
    };
    check_verdict(&verdict(found, &desired.owner), &resource)?;
    if wanted.is_shown_by(&found.properties) {
        return Ok(None);
    }
    let etag = found.etag.clone().unwrap_or_else(|| "*".to_owned());
    Ok(Some(Step::put(resource, wanted, Some(etag))))
}

/// One of the tags is a mark as subscriptions have it.
fn verdict(found: &Found<NamedValue>, owner: &Owner) -> Verdict {
    let tags = found.properties.tags.iter().flatten();
    let marks = tags.map(|tag| mark::judge_label(Some(tag), owner));
    marks
        .filter(|verdict| *verdict != Verdict::Unmarked)
        .min_by_key(|verdict| !verdict.is_ours())
        .unwrap_or(Verdict::Unmarked)
}

/// Removes the named value, if it is ours.
pub async fn remove_secret(
    client: &ArmClient,
    owner: &Owner,
    name: &str,
) -> Result<Removal, RegistrationError> {
    let resource = Resource::NamedValue(name.to_owned());
    let Some(found) = client.get::<NamedValue>(&resource).await? else {
        return Ok(Removal::Gone { left: vec![] });
    };
    if !verdict(&found, owner).is_ours() {
        return Ok(Removal::Gone {
            left: vec![resource.title()],
        });
    }
    let title = resource.title();
    match delete(client, resource).await {
        Ok(pending) => Ok(pending.unwrap_or(Removal::Gone { left: vec![] })),
        // Policies that were left on purpose (Orphan) still need it: it stays with them.
        Err(RegistrationError::Arm(ArmError {
            class: ErrorClass::Validation { message, .. },
            ..
        })) => Ok(Removal::Gone {
            left: vec![format!("{title} ({message})")],
        }),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired(number: i64) -> SecretRegistration {
        SecretRegistration {
            owner: Owner {
                cluster_id: "demo".into(),
                namespace: String::new(),
                name: "contoso".into(),
                uid: "u-1".into(),
            },
            name: "demo-mcp-fleet-secret-contoso-1".into(),
            number,
            value: SecretString::new(format!("the value of number {number}")),
        }
    }

    /// As the service answers a GET: without the value.
    fn settled(of: &SecretRegistration) -> Found<NamedValue> {
        Found {
            properties: NamedValue {
                value: None,
                ..of.document()
            },
            etag: Some("\"1\"".into()),
        }
    }

    #[test]
    fn it_is_a_secret_and_its_tags_do_not_tell_it() {
        let document = serde_json::to_value(desired(3).document()).unwrap();
        assert_eq!(document["secret"], true);
        let tags = document["tags"].to_string();
        assert!(tags.contains("number-3") && !tags.contains("the value"), "{tags}");
        // API Management takes at most 32 tags, and names of these characters.
        let name = document["displayName"].as_str().unwrap();
        assert!(
            name.chars()
                .all(|c| c.is_ascii_alphanumeric() || "-._".contains(c))
        );
    }

    #[test]
    fn another_value_is_noticed_by_its_print_and_costs_one_write() {
        let written = |desired: &SecretRegistration, found: Option<&Found<NamedValue>>| {
            let step = plan(desired, found).unwrap()?;
            Some((step.verb.label(), step.if_match))
        };
        assert_eq!(written(&desired(1), None), Some(("PUT", None)));
        assert_eq!(written(&desired(1), Some(&settled(&desired(1)))), None);
        let changed = Some(("PUT", Some("\"1\"".to_owned())));
        assert_eq!(written(&desired(2), Some(&settled(&desired(1)))), changed);
        let mut shown = settled(&desired(1));
        shown.properties.secret = Some(false);
        assert_eq!(
            written(&desired(1), Some(&shown)),
            changed,
            "anybody could read it"
        );
        let other = SecretRegistration {
            value: SecretString::new("derived from another master key"),
            ..desired(1)
        };
        assert_eq!(written(&other, Some(&settled(&desired(1)))), changed);
    }

    #[test]
    fn what_is_not_ours_is_left_alone_and_what_was_in_a_former_life_is_taken_over() {
        let with = |change: fn(&mut Owner)| {
            let mut other = desired(1);
            change(&mut other.owner);
            settled(&other)
        };
        for (what, found) in [
            (
                "another cluster's",
                with(|owner| owner.cluster_id = "prod".into()),
            ),
            ("another gateway's", with(|owner| owner.name = "fabrikam".into())),
            ("nobody's", {
                let mut found = settled(&desired(1));
                found.properties.tags = None;
                found
            }),
        ] {
            let error = plan(&desired(1), Some(&found)).unwrap_err();
            assert_eq!(error.reason(), "Conflict", "{what}: {error}");
        }
        let former = with(|owner| owner.uid = "u-0".into());
        assert!(plan(&desired(1), Some(&former)).unwrap().is_some());
    }
}
