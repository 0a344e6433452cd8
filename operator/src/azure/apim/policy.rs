//! The API policy, by construction: every element and attribute here is one that API Management accepts in its
//! section and scope, and every text is escaped by the XML writer.
//! In: routing, time limit, rate limit, CORS; out: the XML document.
//!
//! Safe for streams: nothing reads or buffers a response body, and `forward-request` has `buffer-response="false"`
//! (Microsoft's guide to server-sent events). The subscription key of the caller ends at the gateway.

use std::io;

use quick_xml::{
    Writer,
    events::{BytesText, Event},
};

use crate::azure::gateway_secret::SERVER;

/// Where callers put their subscription key, unless the platform names another header. The API is told the same names, so
/// that the deletion below is complete.
pub const KEY_HEADER: &str = "Ocp-Apim-Subscription-Key";
pub const KEY_QUERY: &str = "subscription-key";
/// Where the server is told who calls: the name of the subscription, never what the caller says itself.
const CALLER_HEADER: &str = "x-mcp-caller";
const CALLER: &str = r#"@(context.Subscription?.Id ?? "")"#;
/// When it was told so, and the server's proof that it was the gateway: with the secret that both know, over name and time.
const CALLER_TIME_HEADER: &str = "x-mcp-caller-time";
const CALLER_SIGNATURE_HEADER: &str = "x-mcp-caller-signature";
const SECRET_VARIABLE: &str = "mcp-secret";
const TIME_VARIABLE: &str = "mcp-time";
const TIME: &str = "@(System.DateTimeOffset.UtcNow.ToUnixTimeSeconds().ToString())";
const SIGNATURE: &str = r#"@(System.Convert.ToBase64String(new System.Security.Cryptography.HMACSHA256(System.Text.Encoding.UTF8.GetBytes((string)context.Variables["mcp-secret"])).ComputeHash(System.Text.Encoding.UTF8.GetBytes((context.Subscription?.Id ?? "") + "\n" + (string)context.Variables["mcp-time"]))))"#;

/// What a browser client of MCP sends (both protocol eras) beside the safelisted headers.
const MCP_HEADERS: [&str; 8] = [
    "Accept",
    "Authorization",
    "Content-Type",
    "Last-Event-ID",
    "Mcp-Method",
    "Mcp-Name",
    "MCP-Protocol-Version",
    "Mcp-Session-Id",
];
const EXPOSED_HEADERS: [&str; 3] = ["Mcp-Session-Id", "Retry-After", "WWW-Authenticate"];
const METHODS: [&str; 3] = ["GET", "POST", "DELETE"];

/// Calls per subscription key and period. The service accepts periods of up to 300 s.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateLimit {
    pub calls: u32,
    pub renewal_seconds: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Cors {
    /// `*` alone, or scheme, host and port each.
    pub allowed_origins: Vec<String>,
    /// In addition to those that MCP needs.
    pub allowed_headers: Vec<String>,
    pub max_age_seconds: u32,
    pub allow_credentials: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiPolicy<'a> {
    pub backend_id: &'a str,
    /// Where callers put their subscription key.
    pub key_header: &'a str,
    /// Sent as `Host` instead of the one in the backend's URL.
    pub host: Option<&'a str>,
    pub timeout_seconds: u32,
    pub rate_limit: Option<RateLimit>,
    pub cors: Option<&'a Cors>,
    pub secret: Option<ApiSecret<'a>>,
}

/// The secret that only the gateway and the server behind an API know. What the policy shows is where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ApiSecret<'a> {
    /// Of the gateway's secret.
    pub named_value: &'a str,
    pub api_id: &'a str,
    /// In which the server wants its own.
    pub header: &'a str,
}

/// Renders the policy document, indented, without an XML declaration.
pub fn render(policy: &ApiPolicy<'_>) -> String {
    let mut writer = Writer::new_with_indent(Vec::new(), b' ', 2);
    // Writing to a Vec does not fail.
    let written = policies(&mut writer, policy);
    debug_assert!(written.is_ok());
    String::from_utf8(writer.into_inner()).unwrap_or_default()
}

type Out = Writer<Vec<u8>>;

fn policies(out: &mut Out, policy: &ApiPolicy<'_>) -> io::Result<()> {
    out.create_element("policies").write_inner_content(|out| {
        out.create_element("inbound")
            .write_inner_content(|out| inbound(out, policy))?;
        out.create_element("backend")
            .write_inner_content(|out| forward(out, policy.timeout_seconds))?;
        out.create_element("outbound").write_inner_content(base)?;
        out.create_element("on-error").write_inner_content(base)?;
        Ok(())
    })?;
    Ok(())
}

fn base(out: &mut Out) -> io::Result<()> {
    out.create_element("base").write_empty()?;
    Ok(())
}

fn inbound(out: &mut Out, policy: &ApiPolicy<'_>) -> io::Result<()> {
    base(out)?;
    // First, so that a refusal further down carries the headers that let a browser show it.
    if let Some(settings) = policy.cors {
        cors(out, settings, policy.key_header)?;
    }
    if let Some(RateLimit {
        calls,
        renewal_seconds,
    }) = policy.rate_limit
    {
        out.create_element("rate-limit")
            .with_attribute(("calls", calls.to_string().as_str()))
            .with_attribute(("renewal-period", renewal_seconds.to_string().as_str()))
            .write_empty()?;
    }
    delete(out, "set-header", policy.key_header)?;
    delete(out, "set-query-parameter", KEY_QUERY)?;
    assert_caller(out)?;
    if let Some(secret) = &policy.secret {
        send_secret(out, secret)?;
    }
    if policy.cors.is_some() {
        // The gateway has judged the origin; the server's own check knows only its own names. Without CORS the
        // header stays, and the server refuses foreign origins itself.
        delete(out, "set-header", "Origin")?;
    }
    if let Some(host) = policy.host {
        override_header(out, "Host", host)?;
    }
    out.create_element("set-backend-service")
        .with_attribute(("backend-id", policy.backend_id))
        .write_empty()?;
    Ok(())
}

/// Without a key there is nobody to name, and what came is overwritten all the same.
fn assert_caller(out: &mut Out) -> io::Result<()> {
    override_header(out, CALLER_HEADER, CALLER)
}

/// Derives the server's secret from the gateway's, as [`crate::azure::gateway_secret`] does it, sends it, and signs who
/// calls with it. Type names are written in full: whatever the service imports, they mean the same.
fn send_secret(out: &mut Out, secret: &ApiSecret<'_>) -> io::Result<()> {
    let ApiSecret {
        named_value,
        api_id,
        header,
    } = secret;
    let derive = format!(
        r#"@(System.Convert.ToBase64String(new System.Security.Cryptography.HMACSHA256(System.Convert.FromBase64String("{{{{{named_value}}}}}")).ComputeHash(System.Text.Encoding.UTF8.GetBytes("{SERVER}{api_id}"))))"#
    );
    set_variable(out, SECRET_VARIABLE, &derive)?;
    set_variable(out, TIME_VARIABLE, TIME)?;
    let variable = |name: &str| format!(r#"@((string)context.Variables["{name}"])"#);
    override_header(out, header, &variable(SECRET_VARIABLE))?;
    override_header(out, CALLER_TIME_HEADER, &variable(TIME_VARIABLE))?;
    override_header(out, CALLER_SIGNATURE_HEADER, SIGNATURE)
}

fn set_variable(out: &mut Out, name: &str, value: &str) -> io::Result<()> {
    out.create_element("set-variable")
        .with_attribute(("name", name))
        .with_attribute(("value", value))
        .write_empty()?;
    Ok(())
}

fn override_header(out: &mut Out, name: &str, value: &str) -> io::Result<()> {
    out.create_element("set-header")
        .with_attribute(("name", name))
        .with_attribute(("exists-action", "override"))
        .write_inner_content(|out| children(out, "value", [value].into_iter()))?;
    Ok(())
}

fn delete(out: &mut Out, element: &str, name: &str) -> io::Result<()> {
    out.create_element(element)
        .with_attribute(("name", name))
        .with_attribute(("exists-action", "delete"))
        .write_empty()?;
    Ok(())
}

/// The order of the children is fixed by the service's schema.
fn cors(out: &mut Out, cors: &Cors, key_header: &str) -> io::Result<()> {
    let Cors {
        allowed_origins,
        allowed_headers,
        max_age_seconds,
        allow_credentials,
    } = cors;
    let any_header = allowed_headers.iter().any(|header| header == "*");
    let headers: Vec<&str> = if any_header {
        vec!["*"]
    } else {
        header_names(key_header, allowed_headers)
    };
    out.create_element("cors")
        .with_attribute((
            "allow-credentials",
            if *allow_credentials { "true" } else { "false" },
        ))
        // Callers without a browser send no Origin or one that nobody listed; they are not to be cut off.
        .with_attribute(("terminate-unmatched-request", "false"))
        .write_inner_content(|out| {
            texts(
                out,
                "allowed-origins",
                "origin",
                allowed_origins.iter().map(String::as_str),
            )?;
            let max_age = max_age_seconds.to_string();
            out.create_element("allowed-methods")
                .with_attribute(("preflight-result-max-age", max_age.as_str()))
                .write_inner_content(|out| children(out, "method", METHODS.into_iter()))?;
            texts(out, "allowed-headers", "header", headers.into_iter())?;
            texts(out, "expose-headers", "header", EXPOSED_HEADERS.into_iter())
        })?;
    Ok(())
}

fn header_names<'n>(key_header: &'n str, more: &'n [String]) -> Vec<&'n str> {
    let mut names = MCP_HEADERS.to_vec();
    for name in std::iter::once(key_header).chain(more.iter().map(String::as_str)) {
        if !names.iter().any(|known| known.eq_ignore_ascii_case(name)) {
            names.push(name);
        }
    }
    names
}

fn texts<'t>(out: &mut Out, list: &str, item: &str, values: impl Iterator<Item = &'t str>) -> io::Result<()> {
    out.create_element(list)
        .write_inner_content(|out| children(out, item, values))?;
    Ok(())
}

fn children<'t>(out: &mut Out, item: &str, values: impl Iterator<Item = &'t str>) -> io::Result<()> {
    for value in values {
        out.create_element(item)
            .write_text_content(BytesText::new(value))?;
    }
    Ok(())
}

fn forward(out: &mut Out, timeout_seconds: u32) -> io::Result<()> {
    let timeout = timeout_seconds.to_string();
    // `timeout` is the time until the response's headers, so a long stream is not cut by it.
    out.create_element("forward-request")
        .with_attribute(("timeout", timeout.as_str()))
        .with_attribute(("buffer-response", "false"))
        .write_empty()?;
    Ok(())
}

/// The document as a tree in which indentation, line ends, attribute order, kind of quotes and of escapes, comments
/// and `<a/>` or `<a></a>` make no difference; `None` when it is not XML. The service re-indents what it stores.
pub(crate) fn canonical(xml: &str) -> Option<String> {
    let mut reader = quick_xml::Reader::from_str(xml);
    let mut out = String::with_capacity(xml.len());
    let mut text = String::new();
    let mut depth = 0_u32;
    loop {
        let event = reader.read_event().ok()?;
        match &event {
            Event::Text(part) => text.push_str(&part.xml10_content()),
            Event::CData(part) => text.push_str(&part.xml10_content()),
            Event::GeneralRef(reference) => text.push_str(&resolved(reference)?),
            Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            Event::Start(_) | Event::Empty(_) | Event::End(_) | Event::Eof => flush(&mut out, &mut text),
        }
        match event {
            Event::Start(start) => {
                open(&mut out, &start)?;
                depth += 1;
            }
            Event::Empty(start) => {
                open(&mut out, &start)?;
                out.push_str("/\n");
            }
            Event::End(_) => {
                depth = depth.checked_sub(1)?;
                out.push_str("/\n");
            }
            Event::Eof => break,
            _ => {}
        }
    }
    (depth == 0 && !out.is_empty()).then_some(out)
}

fn flush(out: &mut String, text: &mut String) {
    let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
    if !words.is_empty() {
        out.extend(["text ", &format!("{words:?}"), "\n"]);
    }
    text.clear();
}

fn open(out: &mut String, start: &quick_xml::events::BytesStart<'_>) -> Option<()> {
    let mut attributes = vec![];
    for attribute in start.attributes() {
        let attribute = attribute.ok()?;
        let value = attribute
            .normalized_value(quick_xml::XmlVersion::Implicit1_0)
            .ok()?;
        attributes.push(format!("{:?}={value:?}", attribute.key.as_ref()));
    }
    attributes.sort();
    let name = format!("{:?} ", start.name().as_ref());
    out.extend([&name, &attributes.join(" "), "\n"]);
    Some(())
}

fn resolved(reference: &quick_xml::events::BytesRef<'_>) -> Option<String> {
    if let Some(character) = reference.resolve_char_ref().ok()? {
        return Some(character.to_string());
    }
    quick_xml::escape::resolve_predefined_entity(&reference.xml10_content()).map(str::to_owned)
}

/// Whether a stored document says the same as ours.
pub(crate) fn same_policy(wanted: &str, found: &str) -> bool {
    match (canonical(wanted), canonical(found)) {
        (Some(wanted), Some(found)) => wanted == found,
        _ => false,
    }
}

/// Whether a policy routes to this backend: evidence of ownership where somebody has removed a mark.
pub(crate) fn routes_to(policy: &str, backend_id: &str) -> bool {
    canonical(policy).is_some_and(|text| {
        text.lines()
            .any(|line| line.contains("set-backend-service") && line.contains(&format!("{backend_id:?}")))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain() -> ApiPolicy<'static> {
        ApiPolicy {
            backend_id: "demo-tools-weather-1",
            key_header: KEY_HEADER,
            host: None,
            timeout_seconds: 240,
            rate_limit: Some(RateLimit {
                calls: 1000,
                renewal_seconds: 60,
            }),
            cors: None,
            secret: None,
        }
    }

    fn cors(origin: &str) -> Cors {
        Cors {
            allowed_origins: vec![origin.to_owned()],
            allowed_headers: vec!["X-Team".into(), "content-type".into()],
            max_age_seconds: 600,
            allow_credentials: false,
        }
    }

    #[test]
    fn a_plain_policy() {
        insta::assert_snapshot!(render(&plain()));
    }

    /// A server knows its own names, and not that of a load balancer that came later.
    #[test]
    fn a_host_is_set_where_it_is_not_that_of_the_url() {
        let host = Some("weather.tools.svc");
        let xml = render(&ApiPolicy { host, ..plain() });
        let expected = r#"<set-header name="Host" exists-action="override">"#;
        assert!(
            xml.contains(expected) && xml.contains("<value>weather.tools.svc</value>"),
            "{xml}"
        );
        assert!(!render(&plain()).contains("Host"));
    }

    #[test]
    fn a_policy_with_cors() {
        insta::assert_snapshot!(render(&ApiPolicy {
            cors: Some(&cors("https://app.example.com")),
            ..plain()
        }));
    }

    #[test]
    fn a_policy_that_sends_the_secret() {
        let policy = ApiPolicy {
            secret: Some(ApiSecret {
                named_value: "demo-mcp-fleet-secret-contoso-1",
                api_id: "demo-tools-weather-1",
                header: "X-Gateway-Secret",
            }),
            ..plain()
        };
        let xml = render(&policy);
        insta::assert_snapshot!(xml);
        // As the service gives it back: line ends, and the quotes of attributes in its own way.
        let back = xml.replace('\n', "\r\n").replace("&quot;", "&#34;");
        assert!(same_policy(&xml, &back));
        assert!(!same_policy(&xml, &render(&plain())));
        for variable in [SECRET_VARIABLE, TIME_VARIABLE] {
            assert!(
                SIGNATURE.contains(&format!("Variables[\"{variable}\"]")),
                "{variable}"
            );
        }
    }

    #[test]
    fn the_key_is_looked_for_and_deleted_under_one_name() {
        let xml = render(&ApiPolicy {
            key_header: "X-Api-Key",
            cors: Some(&cors("https://app.example.com")),
            ..plain()
        });
        assert!(
            xml.contains(r#"<set-header name="X-Api-Key" exists-action="delete"/>"#),
            "{xml}"
        );
        assert!(xml.contains("<header>X-Api-Key</header>"), "{xml}");
        assert!(!xml.contains(KEY_HEADER), "{xml}");
    }

    #[test]
    fn a_star_stands_alone() {
        let star = Cors {
            allowed_headers: vec!["X-Team".into(), "*".into()],
            ..cors("*")
        };
        let xml = render(&ApiPolicy {
            cors: Some(&star),
            ..plain()
        });
        assert!(
            xml.contains("<header>*</header>") && !xml.contains("X-Team"),
            "{xml}"
        );
    }

    #[test]
    fn what_the_service_does_to_a_document_makes_no_difference() {
        let ours = r#"<policies><inbound><base/><set-header name="a" exists-action="delete"/><set-body>x &amp; "y"</set-body></inbound></policies>"#;
        let same = [
            "<policies>\r\n\t<inbound>\r\n\t\t<base />\r\n\t\t<set-header name=\"a\" exists-action=\"delete\" />\r\n\t\t<set-body>x &amp; &quot;y&quot;</set-body>\r\n\t</inbound>\r\n</policies>",
            "<policies><inbound><base></base><set-header exists-action='delete' name='&#97;'/><set-body> x &#38; \"y\" </set-body></inbound></policies>",
            "<?xml version=\"1.0\"?><!-- ours --><policies><inbound><base/><set-header name=\"a\" exists-action=\"delete\"></set-header><set-body><![CDATA[x & \"y\"]]></set-body></inbound></policies>",
        ];
        for found in same {
            assert!(
                same_policy(ours, found),
                "{found}\n{:?}\n{:?}",
                canonical(ours),
                canonical(found)
            );
        }
        let different = [
            r#"<policies><inbound><set-header name="a" exists-action="delete"/><base/><set-body>x &amp; "y"</set-body></inbound></policies>"#,
            r#"<policies><inbound><base/><set-header name="b" exists-action="delete"/><set-body>x &amp; "y"</set-body></inbound></policies>"#,
            r#"<policies><inbound><base/><set-header name="a"/><set-body>x &amp; "y"</set-body></inbound></policies>"#,
            r#"<policies><inbound><base><set-header name="a" exists-action="delete"/></base><set-body>x &amp; "y"</set-body></inbound></policies>"#,
            r#"<policies><inbound><base/><set-header name="a" exists-action="delete"/><set-body>x</set-body></inbound></policies>"#,
            "<policies><inbound>",
            "not xml",
            "",
        ];
        for found in different {
            assert!(!same_policy(ours, found), "{found}");
        }
    }

    #[test]
    fn routing_is_recognised() {
        let xml = render(&plain());
        assert!(routes_to(&xml, "demo-tools-weather-1"));
        assert!(!routes_to(&xml, "demo-tools-weather"));
    }

    proptest! {
        /// Whatever the text, the document stays well-formed, has the same elements, and gives the text back.
        #[test]
        fn texts_are_escaped(origin in "[^\\p{C}]{1,60}", backend in "[^\\p{C}]{1,40}") {
            let settings = cors(&origin);
            let xml = render(&ApiPolicy { backend_id: &backend, cors: Some(&settings), ..plain() });
            let tree = canonical(&xml).expect("well-formed");
            let plain_settings = cors("o");
            let plain_xml = render(&ApiPolicy { backend_id: "b", cors: Some(&plain_settings), ..plain() });
            let plain_tree = canonical(&plain_xml).expect("well-formed");
            let elements = |tree: &str| tree.lines().filter(|line| !line.starts_with("text")).count();
            prop_assert_eq!(elements(&tree), elements(&plain_tree));
            prop_assert!(routes_to(&xml, &backend), "{}", xml);
            let words = origin.split_whitespace().collect::<Vec<_>>().join(" ");
            let line = format!("text {words:?}");
            prop_assert!(words.is_empty() || tree.lines().any(|found| found == line), "{}", tree);
        }
    }
}
