//! What a client takes: the Accept headers of a request and a media type go in, whether it is acceptable comes out
//! (RFC 9110, sections 12.4.2 and 12.5.1).

use http::HeaderMap;
use http::header::ACCEPT;

/// Whether the headers list `essence` (type/subtype, in lower case), itself or by a wildcard, and not with a weight of 0. The
/// most specific range decides. Without an Accept header nothing is listed.
pub fn lists(headers: &HeaderMap, essence: &str) -> bool {
    let (kind, _) = essence.split_once('/').unwrap_or((essence, ""));
    let mut decided = (0, false);
    let values = headers
        .get_all(ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    for range in values.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let specific = if name.eq_ignore_ascii_case(essence) {
            3
        } else if name
            .strip_suffix("/*")
            .is_some_and(|name| name.eq_ignore_ascii_case(kind))
        {
            2
        } else if name == "*/*" {
            1
        } else {
            continue;
        };
        if specific > decided.0 {
            decided = (specific, !parts.any(is_zero_weight));
        }
    }
    decided.1
}

fn is_zero_weight(parameter: &str) -> bool {
    parameter.split_once('=').is_some_and(|(name, value)| {
        name.trim().eq_ignore_ascii_case("q") && value.trim().parse().is_ok_and(|weight: f32| weight <= 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_most_specific_range_decides() {
        for (accept, json, events) in [
            ("application/json, text/event-stream", true, true),
            (
                "Application/JSON;charset=utf-8,TEXT/Event-Stream; q=0.5",
                true,
                true,
            ),
            ("*/*", true, true),
            ("application/*", true, false),
            ("text/*", false, true),
            ("application/json", true, false),
            ("text/html", false, false),
            ("", false, false),
            ("application/json, text/event-stream;q=0", true, false),
            ("*/*, text/event-stream; Q=0.000", true, false),
            ("text/event-stream, */*;q=0", false, true),
            ("*/*;q=0", false, false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(ACCEPT, accept.parse().unwrap());
            assert_eq!(lists(&headers, "application/json"), json, "{accept}");
            assert_eq!(lists(&headers, "text/event-stream"), events, "{accept}");
        }
        assert!(!lists(&HeaderMap::new(), "application/json"));
    }
}
