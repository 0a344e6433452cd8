//! A print of what we compare of a resource: two have the same print exactly if `difference` finds nothing between them.
//! In: a resource as wanted or as listed; out: 64 bits of a SHA-256 over its canonical form. Lists are kept as prints,
//! since bodies are long and anybody's.

use sha2::{Digest as _, Sha256};

use super::{Api, Backend, KeyNames, Subscription, canonical_scope, canonical_text, canonical_url};

pub(crate) trait Print {
    fn print(&self) -> u64;
}

#[derive(Default)]
struct Parts(Sha256);

impl Parts {
    /// Length and presence keep the borders.
    fn text(mut self, text: Option<&str>) -> Self {
        match text {
            Some(text) => {
                self.0.update([1]);
                self.0.update(text.len().to_be_bytes());
                self.0.update(text);
            }
            None => self.0.update([0]),
        }
        self
    }

    fn folded(self, text: Option<&str>) -> Self {
        self.text(text.map(str::to_ascii_lowercase).as_deref())
    }

    fn flag(mut self, flag: Option<bool>) -> Self {
        self.0.update([flag.map_or(2, u8::from)]);
        self
    }

    fn end(self) -> u64 {
        let digest = self.0.finalize();
        digest
            .iter()
            .take(8)
            .fold(0, |print, byte| (print << 8) | u64::from(*byte))
    }
}

fn text(text: Option<&String>) -> Option<String> {
    text.map(|text| canonical_text(text))
}

impl Print for Api {
    fn print(&self) -> u64 {
        let Self {
            display_name,
            description,
            path,
            protocols,
            subscription_required,
            subscription_key_parameter_names,
            format: _,
            value: _,
            provisioning_state: _,
            others: _,
        } = self;
        let names = subscription_key_parameter_names.as_ref();
        let mut parts = Parts::default()
            .text(text(display_name.as_ref()).as_deref())
            .text(text(description.as_ref()).as_deref())
            .folded(path.as_deref().map(|path| path.trim_matches('/')))
            .flag(*subscription_required)
            .flag(names.map(|_| true));
        if let Some(KeyNames { header, query }) = names {
            parts = parts.text(header.as_deref()).text(query.as_deref());
        }
        for protocol in protocols.iter().flatten() {
            parts = parts.text(Some(protocol));
        }
        parts.end()
    }
}

impl Print for Backend {
    fn print(&self) -> u64 {
        let Self {
            title,
            description,
            url,
            protocol,
            tls,
        } = self;
        // Without TLS there is nothing to verify, and we say nothing about it.
        let secure = url
            .as_deref()
            .is_some_and(|url| url.to_ascii_lowercase().starts_with("https:"));
        let tls = tls.clone().unwrap_or_default();
        Parts::default()
            .text(text(title.as_ref()).as_deref())
            .text(text(description.as_ref()).as_deref())
            .text(url.as_deref().map(canonical_url).as_deref())
            .folded(protocol.as_deref())
            .flag(secure.then_some(tls.validate_certificate_chain))
            .flag(secure.then_some(tls.validate_certificate_name))
            .end()
    }
}

impl Print for Subscription {
    fn print(&self) -> u64 {
        let Self {
            display_name,
            scope,
            state,
            primary_key: _,
            secondary_key: _,
        } = self;
        Parts::default()
            .text(text(display_name.as_ref()).as_deref())
            .text(scope.as_deref().map(canonical_scope).as_deref())
            .folded(state.as_deref())
            .end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::azure::apim::document::{documents, tests::registration};

    fn changed<T: Clone>(of: &T, change: impl FnOnce(&mut T)) -> T {
        let mut changed = of.clone();
        change(&mut changed);
        changed
    }

    /// Print and difference must agree: where they do not, lists would hide a change or cost reads for ever.
    #[test]
    fn prints_agree_with_differences() {
        let wanted = documents(&registration()).unwrap();
        let api = &wanted.api;
        let text = |text: &str| Some(text.to_owned());
        for (found, same) in [
            (api.clone(), true),
            (changed(api, |a| a.path = text("/Tools/Weather")), true),
            (
                changed(api, |a| {
                    a.description = a.description.take().map(|d| d.replace('\n', "\r\n") + " ");
                }),
                true,
            ),
            (changed(api, |a| a.provisioning_state = text("Succeeded")), true),
            (
                changed(api, |a| a.others.terms_of_service_url = text("https://x")),
                true,
            ),
            (changed(api, |a| a.path = text("tools/other")), false),
            (changed(api, |a| a.path = None), false),
            (changed(api, |a| a.display_name = text("x")), false),
            (changed(api, |a| a.description = text("x")), false),
            (changed(api, |a| a.subscription_required = Some(false)), false),
            (changed(api, |a| a.subscription_required = None), false),
            (changed(api, |a| a.protocols = Some(vec!["http".into()])), false),
            (changed(api, |a| a.subscription_key_parameter_names = None), false),
            (
                changed(api, |a| {
                    a.subscription_key_parameter_names.as_mut().unwrap().header = text("x");
                }),
                false,
            ),
        ] {
            assert_eq!(api.difference(&found).is_none(), same, "{found:?}");
            assert_eq!(api.print() == found.print(), same, "{found:?}");
        }
        for url in ["http://203.0.113.7", "https://mcp.example.com/base"] {
            let backend = &changed(&wanted.backend, |b| {
                b.url = text(url);
                b.tls = url.starts_with("https").then(super::super::BackendTls::default);
            });
            for (found, same) in [
                (backend.clone(), true),
                (
                    changed(backend, |b| {
                        b.url = Some(format!("{}/", url.replace("http", "HTTP")));
                    }),
                    true,
                ),
                (changed(backend, |b| b.tls = None), true),
                (changed(backend, |b| b.protocol = text("HTTP")), true),
                (changed(backend, |b| b.url = text("http://203.0.113.8")), false),
                (changed(backend, |b| b.title = None), false),
                (changed(backend, |b| b.description = text("x")), false),
                (
                    changed(backend, |b| {
                        b.tls = Some(super::super::BackendTls {
                            validate_certificate_chain: false,
                            ..Default::default()
                        });
                    }),
                    url.starts_with("http:"),
                ),
            ] {
                assert_eq!(backend.difference(&found).is_none(), same, "{found:?}");
                assert_eq!(backend.print() == found.print(), same, "{found:?}");
            }
        }
        let subscription = wanted.subscription.as_ref().unwrap();
        let scope = "/subscriptions/S/resourceGroups/g/providers/Microsoft.ApiManagement/service/Contoso/apis/Demo-tools-weather-1";
        for (found, same) in [
            (subscription.clone(), true),
            (changed(subscription, |s| s.scope = text(scope)), true),
            (changed(subscription, |s| s.state = text("Active")), true),
            (changed(subscription, |s| s.primary_key = None), true),
            (changed(subscription, |s| s.scope = text("/apis/x")), false),
            (changed(subscription, |s| s.scope = text("/apis")), false),
            (changed(subscription, |s| s.state = text("suspended")), false),
            (changed(subscription, |s| s.display_name = text("x")), false),
        ] {
            assert_eq!(subscription.difference(&found).is_none(), same, "{found:?}");
            assert_eq!(subscription.print() == found.print(), same, "{found:?}");
        }
    }
}
