//! Step 9 of the local cluster: what a cloud does for Services of type LoadBalancer.
//!
//! In: Services. Out: an address of 203.0.113.0/24 in their status; kube-proxy answers for it. A Service chooses its address with
//! the annotation below or `spec.loadBalancerIP`; a Service with another `loadBalancerClass` is another's.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::pin::pin;

use anyhow::Result;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Service;
use kube::api::{Patch, PatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;

/// A test changes a Service's address with it.
pub const ADDRESS_ANNOTATION: &str = "mcpfleet.dev/test-address";
/// A Service may name its load balancer; this is ours.
pub const CLASS: &str = "mcpfleet.dev/test";
const FIRST: u8 = 10;
const LAST: u8 = 250;

/// Serves until the watch fails for good, which it does not: it starts again by itself.
pub(crate) async fn serve(client: Client) -> Result<()> {
    let services: Api<Service> = Api::all(client.clone());
    let mut addresses = Addresses::default();
    let mut events = pin!(watcher(services, watcher::Config::default()).default_backoff());
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return Ok(()),
            // The API server is busy or not there yet; the stream goes on after a while.
            Err(_) => continue,
        };
        match event {
            Event::Apply(service) | Event::InitApply(service) => {
                if let Some(change) = addresses.assign(&service) {
                    let api =
                        Api::<Service>::namespaced(client.clone(), &service.namespace().unwrap_or_default());
                    // Lost only when the Service changed or went, and then another event comes.
                    let _ = write(&api, &service, change).await;
                }
            }
            Event::Delete(service) => addresses.release(&service),
            Event::Init | Event::InitDone => {}
        }
    }
}

async fn write(api: &Api<Service>, service: &Service, change: Change) -> kube::Result<()> {
    let ingress = match change {
        Change::Assign(address) => json!([{"ip": address.to_string()}]),
        Change::Release => json!([]),
    };
    let patch = json!({
        "metadata": {"resourceVersion": service.resource_version()},
        "status": {"loadBalancer": {"ingress": ingress}},
    });
    api.patch_status(&service.name_any(), &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(drop)
}

/// What a Service's status should say and does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    Assign(Ipv4Addr),
    Release,
}

/// Which Service has which address. A freed address is given out again only after all others, so that a stale one shows.
#[derive(Debug, Default)]
struct Addresses {
    taken: HashMap<(String, String), Ipv4Addr>,
    last: Option<u8>,
}

impl Addresses {
    /// What has to be written, if anything.
    fn assign(&mut self, service: &Service) -> Option<Change> {
        let current = current(service);
        if !is_ours(service) {
            let had_ours = self.taken.remove(&key(service)).is_some();
            return (had_ours && current.is_some()).then_some(Change::Release);
        }
        let address = self.choose(service, current)?;
        (current != Some(address)).then_some(Change::Assign(address))
    }

    fn choose(&mut self, service: &Service, current: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let key = key(service);
        let free = |address: &Ipv4Addr| {
            !self
                .taken
                .iter()
                .any(|(other, taken)| taken == address && *other != key)
        };
        let address = match asked(service) {
            // Taken by another Service: pending until the other one lets go of it and this one changes.
            Some(asked) => Some(asked).filter(free)?,
            None => self
                .taken
                .get(&key)
                .copied()
                .or(current)
                .filter(|&address| in_range(address))
                .filter(free)
                .or_else(|| self.next())?,
        };
        self.taken.insert(key, address);
        Some(address)
    }

    fn next(&mut self) -> Option<Ipv4Addr> {
        let start = self.last.map_or(FIRST, |last| last.saturating_add(1));
        let number = (start..=LAST).chain(FIRST..start.min(LAST)).find(|&number| {
            let address = in_pool(number);
            !self.taken.values().any(|taken| *taken == address)
        })?;
        self.last = Some(number);
        Some(in_pool(number))
    }

    fn release(&mut self, service: &Service) {
        self.taken.remove(&key(service));
    }
}

fn in_pool(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(203, 0, 113, number)
}

fn in_range(address: Ipv4Addr) -> bool {
    address.octets()[..3] == in_pool(0).octets()[..3]
}

fn key(service: &Service) -> (String, String) {
    (service.namespace().unwrap_or_default(), service.name_any())
}

fn is_ours(service: &Service) -> bool {
    let spec = service.spec.as_ref();
    let class = spec.and_then(|spec| spec.load_balancer_class.as_deref());
    spec.and_then(|spec| spec.type_.as_deref()) == Some("LoadBalancer")
        && class.is_none_or(|class| class == CLASS)
        && service.metadata.deletion_timestamp.is_none()
}

fn asked(service: &Service) -> Option<Ipv4Addr> {
    let annotation = service.annotations().get(ADDRESS_ANNOTATION).map(String::as_str);
    let field = service
        .spec
        .as_ref()
        .and_then(|spec| spec.load_balancer_ip.as_deref());
    annotation
        .or(field)
        .filter(|text| !text.is_empty())?
        .parse()
        .ok()
        .filter(|&address| in_range(address))
}

fn current(service: &Service) -> Option<Ipv4Addr> {
    let ingress = service
        .status
        .as_ref()?
        .load_balancer
        .as_ref()?
        .ingress
        .as_ref()?;
    ingress.first()?.ip.as_deref()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::{Addresses, Change, in_pool};
    use k8s_openapi::api::core::v1::Service;
    use serde_json::{Value, json};

    fn service(name: &str, spec: &Value, address: Option<&str>) -> Service {
        let ingress: Vec<_> = address.into_iter().map(|ip| json!({"ip": ip})).collect();
        let object = json!({
            "metadata": {"name": name, "namespace": "test", "annotations": spec["annotations"]},
            "spec": {"type": spec["type"], "loadBalancerClass": spec["class"], "loadBalancerIP": spec["ip"]},
            "status": {"loadBalancer": {"ingress": ingress}},
        });
        serde_json::from_value(object).unwrap()
    }

    fn plain() -> Value {
        json!({"type": "LoadBalancer"})
    }

    #[test]
    fn an_address_is_assigned_once_and_then_nothing_is_written() {
        let mut addresses = Addresses::default();
        assert_eq!(
            addresses.assign(&service("a", &plain(), None)),
            Some(Change::Assign(in_pool(10)))
        );
        assert_eq!(
            addresses.assign(&service("a", &plain(), Some("203.0.113.10"))),
            None
        );
        assert_eq!(
            addresses.assign(&service("b", &plain(), None)),
            Some(Change::Assign(in_pool(11)))
        );
    }

    #[test]
    fn a_service_chooses_its_address_and_changes_it() {
        let mut addresses = Addresses::default();
        let asks = |address: &str| json!({"type": "LoadBalancer", "annotations": {"mcpfleet.dev/test-address": address}});
        assert_eq!(
            addresses.assign(&service(
                "a",
                &json!({"type": "LoadBalancer", "ip": "203.0.113.77"}),
                None
            )),
            Some(Change::Assign(in_pool(77)))
        );
        let changed = service("a", &asks("203.0.113.78"), Some("203.0.113.77"));
        assert_eq!(addresses.assign(&changed), Some(Change::Assign(in_pool(78))));
        assert_eq!(
            addresses.assign(&service("b", &asks("203.0.113.78"), None)),
            None,
            "taken: stays pending"
        );
    }

    #[test]
    fn a_freed_address_is_not_the_next_one() {
        let mut addresses = Addresses::default();
        addresses.assign(&service("a", &plain(), None));
        addresses.release(&service("a", &plain(), None));
        assert_eq!(
            addresses.assign(&service("a", &plain(), None)),
            Some(Change::Assign(in_pool(11)))
        );
    }

    #[test]
    fn an_address_in_the_status_survives_a_restart() {
        let mut addresses = Addresses::default();
        assert_eq!(
            addresses.assign(&service("a", &plain(), Some("203.0.113.42"))),
            None
        );
        assert_eq!(
            addresses.assign(&service("b", &plain(), Some("198.51.100.9"))),
            Some(Change::Assign(in_pool(10)))
        );
    }

    #[test]
    fn other_types_and_classes_are_left_alone() {
        let mut addresses = Addresses::default();
        assert_eq!(
            addresses.assign(&service("a", &json!({"type": "ClusterIP"}), None)),
            None
        );
        let other = json!({"type": "LoadBalancer", "class": "example.com/other"});
        assert_eq!(addresses.assign(&service("a", &other, Some("203.0.113.9"))), None);
        let own = json!({"type": "LoadBalancer", "class": "mcpfleet.dev/test"});
        assert_eq!(
            addresses.assign(&service("a", &own, None)),
            Some(Change::Assign(in_pool(10)))
        );
        let now_internal = service("a", &json!({"type": "ClusterIP"}), Some("203.0.113.10"));
        assert_eq!(
            addresses.assign(&now_internal),
            Some(Change::Release),
            "the address is taken back"
        );
    }
}
