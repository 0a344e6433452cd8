//! The probe's subscription of a whole gateway: one key for the APIs of every server (`probe: AllApis`).
//! In: [`ProbeRegistration`]; out: what was written, or a conflict and no write. And the way back.
//!
//! Its scope is `/apis`, all APIs of the service. The key is chosen by the caller, so it never has to be read back.

use super::{
    ensure::write,
    error::RegistrationError,
    mark::{self, Owner, Verdict},
    plan::{Step, check_verdict},
    remove::{Removal, delete},
    request::Found,
    secret::SecretString,
    target::Resource,
    transport::ArmClient,
    wire::Subscription,
};

/// All APIs of the service, those of other people included: API Management knows no scope between this and one API.
const SCOPE: &str = "/apis";

/// What a gateway wants to have for its probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProbeRegistration {
    /// The gateway. It is in no namespace, so that member is empty.
    pub owner: Owner,
    pub subscription_id: String,
    pub key: SecretString,
}

impl ProbeRegistration {
    fn document(&self) -> Subscription {
        let key = self.key.expose();
        Subscription {
            display_name: Some(mark::label(&self.owner, Some(&mark::key_print(key)))),
            scope: Some(SCOPE.to_owned()),
            state: Some("active".to_owned()),
            primary_key: Some(key.to_owned()),
            secondary_key: None,
        }
    }
}

/// Makes the subscription as desired. With `rekey` the key is written even though nothing seems to differ: what the
/// service has is not shown by a read. Answers what was written, or `None`.
pub async fn ensure_probe(
    client: &ArmClient,
    desired: &ProbeRegistration,
    rekey: bool,
) -> Result<Option<String>, RegistrationError> {
    let resource = Resource::Subscription(desired.subscription_id.clone());
    let found = client.get::<Subscription>(&resource).await?;
    let Some(step) = plan(desired, found.as_ref(), rekey)? else {
        return Ok(None);
    };
    write(client, &step).await?;
    Ok(Some(step.change))
}

/// The one write that is due, if any. Pure.
fn plan(
    desired: &ProbeRegistration,
    found: Option<&Found<Subscription>>,
    rekey: bool,
) -> Result<Option<Step>, RegistrationError> {
    let resource = Resource::Subscription(desired.subscription_id.clone());
    let wanted = desired.document();
    let Some(found) = found else {
        return Ok(Some(Step::put(resource, wanted, None)));
    };
    check_verdict(&verdict(found, &desired.owner), &resource)?;
    let mut difference = wanted.difference(&found.properties);
    if rekey {
        difference.get_or_insert_default().primary_key = wanted.primary_key;
    }
    Ok(difference.map(|difference| Step::patch(resource, difference, found.etag.as_ref())))
}

fn verdict(found: &Found<Subscription>, owner: &Owner) -> Verdict {
    mark::judge_label(found.properties.display_name.as_deref(), owner)
}

/// Removes the subscription, if it is ours.
pub async fn remove_probe(
    client: &ArmClient,
    owner: &Owner,
    subscription_id: &str,
) -> Result<Removal, RegistrationError> {
    let resource = Resource::Subscription(subscription_id.to_owned());
    let Some(found) = client.get::<Subscription>(&resource).await? else {
        return Ok(Removal::Gone { left: vec![] });
    };
    if !verdict(&found, owner).is_ours() {
        return Ok(Removal::Gone {
            left: vec![resource.title()],
        });
    }
    let pending = delete(client, resource).await?;
    Ok(pending.unwrap_or(Removal::Gone { left: vec![] }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn desired() -> ProbeRegistration {
        ProbeRegistration {
            owner: Owner {
                cluster_id: "demo".into(),
                namespace: String::new(),
                name: "contoso".into(),
                uid: "u-1".into(),
            },
            subscription_id: "demo-mcp-fleet-probe-contoso-1".into(),
            key: SecretString::new("0123456789abcdef0123456789abcdef"),
        }
    }

    /// As the service answers a GET: the full scope, and no key.
    fn settled(change: impl FnOnce(&mut Subscription)) -> Found<Subscription> {
        let mut properties = Subscription {
            scope: Some(
                "/subscriptions/s/resourceGroups/g/providers/Microsoft.ApiManagement/service/contoso/apis"
                    .into(),
            ),
            primary_key: None,
            ..desired().document()
        };
        change(&mut properties);
        Found {
            properties,
            etag: Some("\"1\"".into()),
        }
    }

    #[test]
    fn each_difference_costs_one_write_and_none_none() {
        let other_key = ProbeRegistration {
            key: SecretString::new("another"),
            ..desired()
        };
        let later_life = ProbeRegistration {
            owner: Owner {
                uid: "u-2".into(),
                ..desired().owner
            },
            ..desired()
        };
        let same = settled(|_| ());
        let suspended = settled(|found| found.state = Some("suspended".into()));
        let one_api = settled(|found| found.scope = Some("/apis/payments".into()));
        let renamed = "PATCH subscription (displayName, primaryKey)";
        let cases = [
            ("absent", desired(), None, false, Some("PUT subscription")),
            ("the same", desired(), Some(&same), false, None),
            (
                "refused key",
                desired(),
                Some(&same),
                true,
                Some("PATCH subscription (primaryKey)"),
            ),
            ("other key", other_key, Some(&same), false, Some(renamed)),
            ("later life", later_life, Some(&same), false, Some(renamed)),
            (
                "suspended",
                desired(),
                Some(&suspended),
                false,
                Some("PATCH subscription (state)"),
            ),
            (
                "other scope",
                desired(),
                Some(&one_api),
                false,
                Some("PATCH subscription (scope)"),
            ),
        ];
        for (name, desired, found, rekey, expected) in cases {
            let step = plan(&desired, found, rekey).unwrap();
            let written = step.map(|step| format!("{} {}", step.verb.label(), step.change));
            assert_eq!(written.as_deref(), expected, "{name}");
        }
    }

    #[test]
    fn what_is_not_ours_is_a_conflict() {
        let stranger = Owner {
            name: "fabrikam".into(),
            ..desired().owner
        };
        for (name, label) in [
            ("another gateway", mark::label(&stranger, None)),
            ("no mark", "Our own tests".to_owned()),
        ] {
            let found = settled(|found| found.display_name = Some(label));
            for rekey in [false, true] {
                let error = plan(&desired(), Some(&found), rekey).unwrap_err();
                assert_eq!(error.reason(), "Conflict", "{name}");
                assert!(error.to_string().contains("left alone"), "{error}");
            }
        }
    }
}
