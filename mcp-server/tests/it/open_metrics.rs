//! The metrics port, read as OpenMetrics 1.0 is written: every line must be one that the specification knows.

use crate::fake_nws::FakeNws;
use crate::harness::{Server, get, request};
use serde_json::json;
use std::collections::{HashMap, HashSet};

/// What operators watch; docs/weather-troubleshooting.md and alerts refer to these.
const WATCHED: [(&str, &str); 11] = [
    ("mcp_weather_tool_calls", "counter"),
    ("mcp_weather_tool_call_seconds", "histogram"),
    ("mcp_weather_tool_calls_running", "gauge"),
    ("mcp_weather_sse_streams", "gauge"),
    ("mcp_weather_sse_streams_opened", "counter"),
    ("mcp_weather_upstream_requests", "counter"),
    ("mcp_weather_refused_requests", "counter"),
    ("mcp_weather_audit_records", "counter"),
    ("mcp_weather_cache_lookups", "counter"),
    ("mcp_weather_connections", "gauge"),
    ("mcp_weather_connections_full", "counter"),
];

/// A scrape: the type of each family, and each sample with its labels as written.
#[derive(Default)]
struct Scrape {
    types: HashMap<String, String>,
    samples: HashMap<String, f64>,
}

impl Scrape {
    fn read(text: &str) -> Scrape {
        let mut scrape = Scrape::default();
        let lines = text
            .strip_suffix("# EOF\n")
            .expect("no end, so it may be cut off");
        let mut helped = HashSet::new();
        for line in lines.lines() {
            if let Some(rest) = line.strip_prefix("# ") {
                let (kind, rest) = rest.split_once(' ').unwrap();
                let (family, value) = rest.split_once(' ').unwrap();
                match kind {
                    "TYPE" => {
                        let before = scrape.types.insert(family.to_owned(), value.to_owned());
                        assert_eq!(before, None, "{family} is there twice");
                    }
                    "HELP" => assert!(helped.insert(family.to_owned()) && value.ends_with('.'), "{line}"),
                    "UNIT" => assert!(family.ends_with(&format!("_{value}")), "{line}"),
                    _ => panic!("unknown: {line}"),
                }
            } else {
                let (series, value) = line.rsplit_once(' ').unwrap();
                scrape.check_series(series);
                let before = scrape.samples.insert(series.to_owned(), value.parse().unwrap());
                assert_eq!(before, None, "{series} is there twice");
            }
        }
        assert!(scrape.types.keys().all(|family| helped.contains(family)));
        scrape
    }

    fn check_series(&self, series: &str) {
        let (name, labels) = series.split_once('{').map_or((series, None), |(name, rest)| {
            (name, Some(rest.strip_suffix('}').expect("labels without end")))
        });
        let suffixes = [
            ("_total", "counter"),
            ("_bucket", "histogram"),
            ("_count", "histogram"),
            ("_sum", "histogram"),
            ("", "gauge"),
        ];
        assert!(
            suffixes.iter().any(|(suffix, kind)| {
                let family = name.strip_suffix(suffix);
                family.is_some_and(|family| self.types.get(family).is_some_and(|known| known == kind))
            }),
            "{series} belongs to no family before it"
        );
        let mut names = HashSet::new();
        for label in labels.into_iter().flat_map(|labels| labels.split(',')) {
            let (name, value) = label.split_once('=').unwrap();
            let value = value
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .unwrap();
            assert!(names.insert(name), "{series} has a label twice");
            assert!(
                value
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"_+.".contains(&byte)),
                "{series}: a value of a closed set needs no other characters"
            );
        }
    }
}

async fn scrape(server: &Server) -> Scrape {
    let response = get(&server.metrics).await.unwrap();
    assert_eq!(
        response.headers()["content-type"],
        "application/openmetrics-text; version=1.0.0; charset=utf-8"
    );
    Scrape::read(&response.text().await.unwrap())
}

#[tokio::test]
async fn everything_that_is_watched_is_there() {
    let nws = FakeNws::good().await;
    let server = Server::start(&nws.url, &["--audit-log=/dev/null"]).await;
    let before = scrape(&server).await;
    let mut events = server.open().await;
    for (id, tool) in [(1, "get_alerts"), (2, "no\"such\n{tool}"), (3, "another")] {
        let call = json!({"name": tool, "arguments": {"state": "OR"}});
        assert_eq!(events.post(&request(id, "tools/call", &call)).await, 202);
        events.message().await;
    }
    assert_eq!(get(format!("{}/mcp", server.url)).await.unwrap().status(), 405);
    server.app.audit.close(std::time::Duration::from_secs(10));
    let after = scrape(&server).await;
    for (family, kind) in WATCHED {
        assert_eq!(
            after.types.get(family).map(String::as_str),
            Some(kind),
            "{family}"
        );
    }
    for (series, value) in [
        (
            r#"mcp_weather_tool_calls_total{tool="get_alerts",era="sse",outcome="ok"}"#,
            1.0,
        ),
        (
            r#"mcp_weather_tool_calls_total{tool="other",era="sse",outcome="refused"}"#,
            2.0,
        ),
        (
            r#"mcp_weather_tool_call_seconds_count{tool="other",era="sse"}"#,
            2.0,
        ),
        (
            r#"mcp_weather_tool_call_seconds_bucket{le="+Inf",tool="get_alerts",era="sse"}"#,
            1.0,
        ),
        ("mcp_weather_tool_calls_running", 0.0),
        ("mcp_weather_sse_streams", 1.0),
        (
            r#"mcp_weather_cache_lookups_total{tool="get_alerts",found="miss"}"#,
            1.0,
        ),
        ("mcp_weather_sse_streams_opened_total", 1.0),
        (
            r#"mcp_weather_upstream_requests_total{endpoint="alerts",outcome="ok"}"#,
            1.0,
        ),
        (r#"mcp_weather_refused_requests_total{reason="method"}"#, 1.0),
        (r#"mcp_weather_audit_records_total{outcome="written"}"#, 3.0),
        (r#"mcp_weather_audit_records_total{outcome="dropped"}"#, 0.0),
    ] {
        assert_eq!(after.samples.get(series), Some(&value), "{series}");
    }
    assert!(after.samples.keys().all(|series| !series.contains("such")));
    // Labels are all there from the start, or a rate over the first call of a kind would not see it.
    assert!(
        before
            .samples
            .contains_key(r#"mcp_weather_tool_calls_total{tool="get_forecast",era="modern",outcome="ok"}"#)
    );
}
