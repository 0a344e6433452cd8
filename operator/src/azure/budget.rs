//! ARM counts requests by principal and subscription, and so do we: gateways that share both share one throttle.
//! In: which gateway joins with which settings; out: its throttle. Where they ask for different rates of writes, the
//! strictest holds: it was chosen to leave room for somebody else.

use std::collections::HashMap;
use std::sync::Arc;

use mcp_fleet_crds::Writes;

use super::apim::{Identity, Rate, Rates, Target, Throttle};

/// Whom ARM counts: who asks, for which subscription, of which cloud.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Principal {
    endpoint: String,
    subscription: String,
    tenant: String,
    client: String,
}

impl Principal {
    pub(super) fn new(target: &Target, identity: &Identity) -> Self {
        Self {
            endpoint: target.endpoint().as_str().trim_end_matches('/').to_owned(),
            subscription: target.subscription_id().to_ascii_lowercase(),
            tenant: identity.tenant_id.to_ascii_lowercase(),
            client: identity.client_id.to_ascii_lowercase(),
        }
    }
}

#[derive(Debug, Default)]
pub(super) struct Budgets(HashMap<Principal, Budget>);

#[derive(Debug)]
struct Budget {
    throttle: Arc<Throttle>,
    /// What each gateway asks for, by its name.
    writes: HashMap<String, Writes>,
}

impl Budgets {
    /// The throttle of a gateway, which now asks for these writes.
    pub(super) fn join(&mut self, gateway: &str, principal: Principal, writes: Writes) -> Arc<Throttle> {
        self.leave_but(gateway, Some(&principal));
        let budget = self.0.entry(principal).or_insert_with(|| Budget {
            throttle: Arc::new(Throttle::new(Rates {
                writes: rate(writes),
                ..Rates::default()
            })),
            writes: HashMap::new(),
        });
        budget.writes.insert(gateway.to_owned(), writes);
        budget.apply();
        Arc::clone(&budget.throttle)
    }

    pub(super) fn leave(&mut self, gateway: &str) {
        self.leave_but(gateway, None);
    }

    fn leave_but(&mut self, gateway: &str, staying: Option<&Principal>) {
        self.0.retain(|principal, budget| {
            if staying == Some(principal) {
                return true;
            }
            if budget.writes.remove(gateway).is_some() {
                budget.apply();
            }
            !budget.writes.is_empty()
        });
    }
}

impl Budget {
    fn apply(&self) {
        let strictest = |of: fn(&Writes) -> i32| self.writes.values().map(of).min();
        let per_second = strictest(|writes| writes.per_second);
        let burst = strictest(|writes| writes.burst);
        if let (Some(per_second), Some(burst)) = (per_second, burst) {
            self.throttle.set_writes(rate(Writes { per_second, burst }));
        }
    }
}

fn rate(writes: Writes) -> Rate {
    let positive = |value: i32| u32::try_from(value).unwrap_or(1);
    Rate::new(positive(writes.per_second), positive(writes.burst))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn principal(subscription: &str, client: &str) -> Principal {
        Principal {
            endpoint: "https://management.azure.com".into(),
            subscription: subscription.into(),
            tenant: "t".into(),
            client: client.into(),
        }
    }

    fn writes(per_second: i32, burst: i32) -> Writes {
        Writes { per_second, burst }
    }

    #[test]
    fn gateways_of_one_principal_and_subscription_share_a_budget() {
        let mut budgets = Budgets::default();
        let one = budgets.join("one", principal("s", "c"), writes(10, 200));
        let two = budgets.join("two", principal("s", "c"), writes(10, 200));
        assert!(Arc::ptr_eq(&one, &two));
        for other in [principal("other", "c"), principal("s", "other")] {
            let three = budgets.join("three", other, writes(10, 200));
            assert!(!Arc::ptr_eq(&one, &three));
        }
        assert_eq!(
            budgets.0.len(),
            2,
            "a gateway that changes its principal leaves the former one"
        );
        budgets.leave("three");
        budgets.leave("one");
        assert_eq!(budgets.0.len(), 1);
        budgets.leave("two");
        assert!(budgets.0.is_empty(), "nothing is kept of gateways that are gone");
    }

    #[test]
    fn the_strictest_of_them_holds() {
        let mut budgets = Budgets::default();
        let throttle = budgets.join("one", principal("s", "c"), writes(10, 200));
        assert_eq!(throttle.writes(), Rate::new(10, 200));
        budgets.join("two", principal("s", "c"), writes(2, 500));
        assert_eq!(throttle.writes(), Rate::new(2, 200));
        budgets.join("two", principal("s", "c"), writes(20, 100));
        assert_eq!(throttle.writes(), Rate::new(10, 100));
        budgets.leave("two");
        assert_eq!(throttle.writes(), Rate::new(10, 200));
    }
}
