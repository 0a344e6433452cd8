//! Coordinates as the NWS wants them: degrees go in, at most four decimals without trailing zeros come out.
//! More decimals would be answered with a redirect (301 AdjustPointPrecision).

use std::fmt;

/// A point on the grid of ten-thousandths of a degree (about 11 m); also the key of what is cached for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Point {
    latitude: i32,
    longitude: i32,
}

impl Point {
    /// Round; values are within ±90 and ±180 degrees.
    pub fn from_degrees(latitude: f64, longitude: f64) -> Point {
        Point {
            latitude: ten_thousandths(latitude),
            longitude: ten_thousandths(longitude),
        }
    }

    /// Degrees, rounded.
    pub fn latitude(self) -> f64 {
        f64::from(self.latitude) / 1e4
    }

    /// Degrees, rounded.
    pub fn longitude(self) -> f64 {
        f64::from(self.longitude) / 1e4
    }
}

// The product is at most 1.8 million, so the cast cannot cut anything off; a NaN would become 0.
#[allow(clippy::cast_possible_truncation)]
fn ten_thousandths(degrees: f64) -> i32 {
    (degrees * 1e4).round() as i32
}

impl fmt::Display for Point {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The shortest decimal that reads back as the same float has no trailing zeros.
        write!(out, "{},{}", self.latitude(), self.longitude())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn rounds_and_trims() {
        for (latitude, longitude, text) in [
            (47.606_209, -122.332_071, "47.6062,-122.3321"),
            (30.0, -85.0, "30,-85"),
            (39.745_04, -97.1, "39.745,-97.1"),
            (-0.0, 0.000_049, "0,0"),
            (-0.000_01, -14.278_1, "0,-14.2781"),
            (90.0, 180.0, "90,180"),
        ] {
            assert_eq!(Point::from_degrees(latitude, longitude).to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn never_more_than_four_decimals(latitude in -90.0..=90.0f64, longitude in -180.0..=180.0f64) {
            let text = Point::from_degrees(latitude, longitude).to_string();
            for part in text.split(',') {
                let decimals = part.split_once('.').map_or("", |(_, decimals)| decimals);
                prop_assert!(decimals.len() <= 4 && !decimals.ends_with('0') && !part.contains('e'), "{}", text);
            }
        }
    }
}
