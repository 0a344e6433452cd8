//! How long an answer may be kept: headers of a response go in, its age and a duration within bounds come out (RFC 9111).

use http::HeaderMap;
use http::header::{AGE, CACHE_CONTROL};
use std::time::{Duration, Instant, SystemTime};

/// Bounds for one kind of answer.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    least: Duration,
    most: Duration,
    /// When the response says nothing.
    unsaid: Duration,
}

/// Alerts are what lives depend on: never kept longer than a minute.
pub const ALERTS: Bounds = Bounds {
    least: Duration::from_secs(2),
    most: Duration::from_mins(1),
    unsaid: Duration::from_secs(30),
};
/// Forecasts are made about once an hour.
pub const FORECAST: Bounds = Bounds {
    least: Duration::from_secs(10),
    most: Duration::from_hours(1),
    unsaid: Duration::from_mins(5),
};
/// Which grid cell a point lies in hardly ever changes.
pub const POINT: Bounds = Bounds {
    least: Duration::from_mins(5),
    most: Duration::from_hours(24),
    unsaid: Duration::from_hours(6),
};

/// The time for which a response with these headers stays fresh, within `bounds`.
/// `s-maxage` is ignored: it is meant for the service's own CDN, which it can purge.
pub fn freshness(headers: &HeaderMap, bounds: Bounds) -> Duration {
    let directives = headers
        .get_all(CACHE_CONTROL)
        .iter()
        .filter_map(|value| value.to_str().ok());
    let (mut max_age, mut forbidden) = (None, false);
    for directive in directives.flat_map(|value| value.split(',')).map(str::trim) {
        let (name, value) = directive.split_once('=').unwrap_or((directive, ""));
        if name.eq_ignore_ascii_case("max-age") {
            max_age = value.trim_matches('"').parse::<u64>().ok();
        } else if name.eq_ignore_ascii_case("no-store") || name.eq_ignore_ascii_case("no-cache") {
            forbidden = true;
        }
    }
    if forbidden {
        return bounds.least;
    }
    let fresh = max_age.map_or(bounds.unsaid, |seconds| {
        Duration::from_secs(seconds).saturating_sub(age(headers))
    });
    fresh.clamp(bounds.least, bounds.most)
}

/// How long the response has been in caches on its way; a day at most.
pub fn age(headers: &HeaderMap) -> Duration {
    headers
        .get(AGE)
        .and_then(|age| age.to_str().ok()?.trim().parse().ok())
        .map_or(Duration::ZERO, Duration::from_secs)
        .min(Duration::from_hours(24))
}

/// The moment at which something was so, on both clocks: one to tell people, one to measure by.
#[derive(Debug, Clone, Copy)]
pub struct AsOf {
    /// For people.
    pub wall: SystemTime,
    /// For ages.
    pub instant: Instant,
}

impl AsOf {
    /// The moment `age` ago.
    pub fn ago(age: Duration) -> AsOf {
        let (wall, instant) = (SystemTime::now(), Instant::now());
        AsOf {
            wall: wall.checked_sub(age).unwrap_or(wall),
            instant: instant.checked_sub(age).unwrap_or(instant),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn follows_the_response_within_bounds() {
        for (control, age, seconds) in [
            ("public, max-age=98, s-maxage=3600", "", 98),
            ("public, max-age=98", "90", 10),
            ("max-age=100", "40", 60),
            ("Max-Age=\"120\"", "", 120),
            ("max-age=0", "", 10),
            ("max-age=999999999999999", "", 3600),
            ("max-age=x", "", 300),
            ("no-store, max-age=500", "", 10),
            ("", "", 300),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(CACHE_CONTROL, control.parse().unwrap());
            headers.insert(AGE, age.parse().unwrap());
            assert_eq!(
                freshness(&headers, FORECAST),
                Duration::from_secs(seconds),
                "{control}"
            );
        }
    }
}
