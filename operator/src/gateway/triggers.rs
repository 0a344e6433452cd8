//! What asks for a pass over gateways. In: the caches; out: references to gateways.

use std::collections::BTreeSet;
use std::time::Duration;

use futures::stream::{self, BoxStream, Stream, StreamExt as _};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PartialObjectMeta;
use kube::runtime::reflector::ObjectRef;
use kube::{Resource, ResourceExt as _};
use mcp_fleet_crds::{McpGateway, McpServer};

use super::load::refuses_probe_key;
use crate::constants::annotations;
use crate::runtime::cache::Cached;
use crate::runtime::context::Caches;
use crate::runtime::controller::{changed, without_status};
use crate::server::door::Label;

/// A fleet that starts claims its gateway a thousand times: counted together, that is a write every few seconds.
const GATHER: Duration = Duration::from_secs(5);

/// Every gateway hears of each change of one of them, for the default's sake, of claims, and of a refused key.
pub(super) fn all(caches: &Caches) -> impl Stream<Item = ObjectRef<McpGateway>> + Send + 'static {
    let own = changed(&caches.gateways, without_status)
        .map(|gateway| gateway.name_any())
        .boxed();
    let servers = gathered(claims(changed(&caches.servers, concern)), GATHER);
    let accesses = gathered(claims(changed(&caches.accesses, claim)), GATHER);
    let gateways = caches.gateways.clone();
    let secrets = changed(&caches.secrets, told).filter_map(move |secret| {
        let name = told(&secret).map(|label| label.gateway).unwrap_or_default();
        // Only the first one, and during a rotation each, is news to a gateway.
        let gateway = gateways.get(None, &name);
        let status = gateway.as_ref().and_then(|gateway| gateway.status.as_ref());
        let secret = status.and_then(|status| status.secret.as_ref());
        let concerned = gateway.is_some() && secret.is_none_or(|secret| secret.other.is_some());
        std::future::ready(concerned.then_some(name))
    });
    let gateways = caches.gateways.clone();
    stream::select_all([own, servers, accesses, secrets.boxed()]).flat_map(move |origin| {
        let mut names: BTreeSet<String> = gateways.list().iter().map(|gateway| gateway.name_any()).collect();
        // One that is gone is no longer in the cache; the queue forgets it by this pass.
        names.extend(Some(origin).filter(|origin| !origin.is_empty()));
        stream::iter(names.into_iter().map(|name| ObjectRef::new(&name)))
    })
}

/// What a server's Secret tells of the secret that its gateway sends.
fn told(secret: &PartialObjectMeta<Secret>) -> Option<Label> {
    Label::of(secret.annotations())
}

fn claim<K: Resource>(object: &K) -> Option<String> {
    object.annotations().get(annotations::CLAIM).cloned()
}

fn concern(server: &McpServer) -> (Option<String>, bool) {
    (claim(server), refuses_probe_key(server))
}

/// An empty name: something changed, ask all.
fn claims<K: Cached>(
    objects: impl Stream<Item = std::sync::Arc<K>> + Send + 'static,
) -> BoxStream<'static, String> {
    objects.map(|_| String::new()).boxed()
}

/// One item for all that come within `period` of the first.
fn gathered(source: BoxStream<'static, String>, period: Duration) -> BoxStream<'static, String> {
    stream::unfold(source.fuse(), move |mut source| async move {
        let first = source.next().await?;
        tokio::time::sleep(period).await;
        // What is there by now belongs to the same item; the end is seen next time.
        while let Some(Some(_)) = futures::FutureExt::now_or_never(source.next()) {}
        Some((first, source))
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn bursts_are_gathered() {
        let (sender, receiver) = futures::channel::mpsc::unbounded();
        let mut items = gathered(receiver.boxed(), Duration::from_millis(20));
        for _ in 0..1000 {
            sender.unbounded_send(String::new()).unwrap();
        }
        assert_eq!(items.next().await, Some(String::new()));
        drop(sender);
        assert_eq!(items.next().await, None);
    }
}
