//! The keys of an access's subscription. In: the subscription's name; out: both keys, or one of them made anew.
//!
//! Each of the two calls is a POST, which ARM counts as a write; a subscription has two keys so that one can be
//! replaced while callers use the other.

use crate::azure::apim::{
    error::{ArmError, ErrorClass, RegistrationError},
    request::{Verb, parse},
    secret::SecretString,
    target::{KeySlot, Resource},
    transport::ArmClient,
    wire::Subscription,
};

/// Both keys of a subscription; either works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Keys {
    pub primary: SecretString,
    pub secondary: SecretString,
}

impl Keys {
    pub fn get(&self, slot: KeySlot) -> &SecretString {
        match slot {
            KeySlot::Primary => &self.primary,
            KeySlot::Secondary => &self.secondary,
        }
    }
}

pub(super) fn keys_of(subscription: Subscription) -> Option<Keys> {
    Some(Keys {
        primary: SecretString::new(subscription.primary_key?),
        secondary: SecretString::new(subscription.secondary_key?),
    })
}

/// Asks for the keys.
pub async fn read_keys(client: &ArmClient, subscription: &str) -> Result<Keys, RegistrationError> {
    let resource = Resource::SubscriptionSecrets(subscription.to_owned());
    let request = client.request(Verb::Post, &resource);
    let answer = client.send(&request).await?;
    let subscription: Subscription = parse(&request, &answer)?;
    keys_of(subscription).ok_or_else(|| {
        let message = "the service answered without keys".to_owned();
        request.failed(ErrorClass::Unexpected { message }).into()
    })
}

/// Makes one key anew: the former one is refused from then on. Done twice it does no harm to who has the other key.
pub async fn regenerate_key(
    client: &ArmClient,
    subscription: &str,
    slot: KeySlot,
) -> Result<(), RegistrationError> {
    let resource = Resource::SubscriptionKey(subscription.to_owned(), slot);
    let request = client.request(Verb::Post, &resource);
    let answer = client.send(&request).await.map_err(|error| ArmError {
        action: "make anew",
        ..error
    })?;
    tracing::info!(
        resource = request.title,
        correlation = answer.header("x-ms-correlation-request-id"),
        "made a key anew"
    );
    Ok(())
}
