//! Who may ask: the Host and Origin of a request are checked before anything else (DNS rebinding; MCP transports, Security),
//! and then, where it is configured, the secret of the gateway.
//!
//! A rebinding attack needs a name, so an IP literal is always served: probes, Prometheus and load balancers use addresses.

use super::gateway_secret::GatewaySecret;
use super::refusal::Refusal;
use axum::extract::Request;
use http::header::{HOST, ORIGIN};
use http::{HeaderMap, HeaderValue};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

/// Names and origins that are served.
#[derive(Debug, Clone, Default)]
pub struct Guard {
    hosts: Vec<String>,
    origins: Vec<String>,
    secret: Option<Arc<GatewaySecret>>,
}

impl Guard {
    /// `hosts` are names, with a port when only that one is meant; `origins` are scheme, host and port as browsers send them.
    pub fn allow(hosts: &[String], origins: &[String]) -> Guard {
        let clean = |list: &[String]| {
            let trimmed = list
                .iter()
                .map(|entry| entry.trim().trim_end_matches('/').to_ascii_lowercase());
            trimmed.filter(|entry| !entry.is_empty()).collect()
        };
        Guard {
            hosts: clean(hosts),
            origins: clean(origins),
            secret: None,
        }
    }

    /// And only what comes through the gateway.
    #[must_use]
    pub fn with_secret(mut self, secret: Option<GatewaySecret>) -> Guard {
        self.secret = secret.map(Arc::new);
        self
    }

    /// The secret that requests must carry.
    pub fn gateway_secret(&self) -> Option<Arc<GatewaySecret>> {
        self.secret.clone()
    }

    /// The same, for a look.
    pub fn secret(&self) -> Option<&GatewaySecret> {
        self.secret.as_deref()
    }

    /// Check one request.
    pub fn check(&self, request: &Request) -> Result<(), Refusal> {
        self.check_names(request)?;
        match &self.secret {
            Some(secret) if !secret.is_in(request.headers()) => Err(Refusal::GatewaySecret),
            _ => Ok(()),
        }
    }

    /// Check Host and Origin only.
    pub fn check_names(&self, request: &Request) -> Result<(), Refusal> {
        let mut hosts = request.headers().get_all(HOST).iter();
        let in_header = match (hosts.next(), hosts.next()) {
            (None, _) => None,
            (Some(host), None) => Some(host.to_str().map_err(|_| Refusal::Host)?),
            (Some(_), Some(_)) => return Err(Refusal::Host),
        };
        // An absolute request target overrides Host (RFC 9112, section 3.2.2); a request with neither is nobody's.
        let in_target = request.uri().authority().map(http::uri::Authority::as_str);
        if in_header.is_none() && in_target.is_none() {
            return Err(Refusal::Host);
        }
        if [in_header, in_target]
            .into_iter()
            .flatten()
            .any(|host| !self.is_allowed_host(host))
        {
            return Err(Refusal::Host);
        }
        let own = in_header.or(in_target).unwrap_or_default();
        let mut origins = request.headers().get_all(ORIGIN).iter();
        if origins.all(|origin| {
            origin
                .to_str()
                .is_ok_and(|origin| self.is_allowed_origin(origin) || is_own_origin(origin, own))
        }) {
            Ok(())
        } else {
            Err(Refusal::Origin)
        }
    }

    /// Whether any web page may call.
    pub fn allows_origins(&self) -> bool {
        !self.origins.is_empty()
    }

    /// The Origin of a request, if there is one and it is allowed.
    pub fn allowed_origin(&self, headers: &HeaderMap) -> Option<HeaderValue> {
        let mut origins = headers.get_all(ORIGIN).iter();
        let (Some(origin), None) = (origins.next(), origins.next()) else {
            return None;
        };
        let is_allowed = origin.to_str().is_ok_and(|origin| self.is_allowed_origin(origin));
        is_allowed.then(|| origin.clone())
    }

    fn is_allowed_host(&self, host: &str) -> bool {
        let (name, port) = split_port(host);
        if port.is_some_and(|port| port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit())) {
            return false;
        }
        let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
        name.eq_ignore_ascii_case("localhost")
            || name.parse::<Ipv4Addr>().is_ok()
            || bracketed.is_some_and(|address| address.parse::<Ipv6Addr>().is_ok())
            || self.hosts.iter().any(|allowed| {
                let wanted = if split_port(allowed).1.is_some() {
                    host
                } else {
                    name
                };
                allowed.eq_ignore_ascii_case(wanted)
            })
    }

    fn is_allowed_origin(&self, origin: &str) -> bool {
        self.origins
            .iter()
            .any(|allowed| allowed.eq_ignore_ascii_case(origin))
    }
}

/// On a loopback address, a page of this very server, which serves none; so no page of anyone else's is let in. MCP's
/// conformance suite calls like that and must not be refused.
fn is_own_origin(origin: &str, host: &str) -> bool {
    let name = split_port(host).0;
    let bracketed = name.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_loopback = name.eq_ignore_ascii_case("localhost")
        || name
            .parse::<Ipv4Addr>()
            .is_ok_and(|address| address.is_loopback())
        || bracketed
            .and_then(|address| address.parse::<Ipv6Addr>().ok())
            .is_some_and(|address| address.is_loopback());
    is_loopback
        && origin
            .strip_prefix("http://")
            .is_some_and(|authority| authority.eq_ignore_ascii_case(host))
}

fn split_port(host: &str) -> (&str, Option<&str>) {
    match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, Some(port)),
        _ => (host, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;

    fn check(host: &str, origin: Option<&str>) -> Result<(), Refusal> {
        let guard = Guard::allow(
            &[
                "weather.tools.svc".into(),
                " Gate.example:8443 ".into(),
                String::new(),
            ],
            &["https://app.example/".into()],
        );
        let mut request = http::Request::get("/mcp").header(HOST, host);
        if let Some(origin) = origin {
            request = request.header(ORIGIN, origin);
        }
        guard.check(&request.body(Body::empty()).unwrap())
    }

    #[test]
    fn serves_addresses_localhost_and_the_names_it_was_told() {
        for host in [
            "localhost",
            "LOCALHOST:8000",
            "127.0.0.1",
            "10.1.2.3:8000",
            "[::1]",
            "[fd00::1]:8000",
            "weather.tools.svc",
            "Weather.Tools.svc:80",
            "gate.example:8443",
        ] {
            assert_eq!(check(host, None), Ok(()), "{host}");
        }
        for host in [
            "",
            "evil.com",
            "evil.com:8000",
            "localhost.evil.com",
            "127.0.0.1.evil.com",
            "gate.example",
            "gate.example:1",
            "weather.tools.svc:",
            "weather.tools.svc:x",
            "weather.tools.svc.evil",
            "::1",
            "[::1",
            "[evil]",
            "0x7f.1",
            "a@localhost",
        ] {
            assert_eq!(check(host, None), Err(Refusal::Host), "{host}");
        }
    }

    #[test]
    fn any_other_origin_is_refused() {
        assert_eq!(check("localhost", Some("https://app.example")), Ok(()));
        for origin in [
            "http://app.example",
            "https://app.example:444",
            "https://evil.com",
            "null",
            "",
            "http://localhost:3000",
            "https://localhost",
        ] {
            assert_eq!(check("localhost", Some(origin)), Err(Refusal::Origin), "{origin}");
        }
    }

    #[test]
    fn a_loopback_address_is_its_own_origin() {
        for host in ["localhost", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"] {
            assert_eq!(
                check(host, Some(&format!("http://{}", host.to_lowercase()))),
                Ok(())
            );
        }
        for (host, origin) in [
            ("127.0.0.1:8000", "http://127.0.0.1:8001"),
            ("127.0.0.1:8000", "http://localhost:8000"),
            ("127.0.0.1:8000", "https://127.0.0.1:8000"),
            ("10.1.2.3:8000", "http://10.1.2.3:8000"),
            ("weather.tools.svc", "http://weather.tools.svc"),
        ] {
            assert_eq!(check(host, Some(origin)), Err(Refusal::Origin), "{host} {origin}");
        }
        assert_eq!(check("evil.com", Some("http://evil.com")), Err(Refusal::Host));
    }

    #[test]
    fn neither_none_nor_two_hosts() {
        let none = http::Request::get("/mcp").body(Body::empty()).unwrap();
        assert_eq!(Guard::default().check(&none), Err(Refusal::Host));
        let two = http::Request::get("/mcp")
            .header(HOST, "localhost")
            .header(HOST, "127.0.0.1");
        assert_eq!(
            Guard::default().check(&two.body(Body::empty()).unwrap()),
            Err(Refusal::Host)
        );
        let target = http::Request::get("http://evil.com/mcp").header(HOST, "localhost");
        assert_eq!(
            Guard::default().check(&target.body(Body::empty()).unwrap()),
            Err(Refusal::Host)
        );
    }
}
