//! Where a point lies: its office and the cell of the office's grid.
//! In: the text of a coordinate pair. Out: a place, a nearer spelling of the point, or why there is none.

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Place {
    pub(super) office: &'static str,
    pub(super) x: u32,
    pub(super) y: u32,
    pub(super) city: &'static str,
    pub(super) state: &'static str,
    pub(super) zone: &'static str,
}

/// Office, latitude and longitude, the city to name, its state and time zone.
const OFFICES: [(&str, f64, f64, &str, &str, &str); 16] = [
    ("SEW", 47.6, -122.3, "Seattle", "WA", "America/Los_Angeles"),
    ("PQR", 45.5, -122.7, "Portland", "OR", "America/Los_Angeles"),
    ("MTR", 37.8, -122.4, "San Francisco", "CA", "America/Los_Angeles"),
    ("LOX", 34.1, -118.2, "Los Angeles", "CA", "America/Los_Angeles"),
    ("BOU", 39.7, -105.0, "Denver", "CO", "America/Denver"),
    ("FWD", 32.8, -97.3, "Fort Worth", "TX", "America/Chicago"),
    ("OAX", 41.3, -96.0, "Omaha", "NE", "America/Chicago"),
    ("MPX", 45.0, -93.2, "Minneapolis", "MN", "America/Chicago"),
    ("LOT", 41.9, -87.6, "Chicago", "IL", "America/Chicago"),
    ("TAE", 30.4, -84.3, "Tallahassee", "FL", "America/New_York"),
    ("MFL", 25.8, -80.2, "Miami", "FL", "America/New_York"),
    ("OKX", 40.7, -74.0, "New York", "NY", "America/New_York"),
    ("AFC", 61.2, -149.9, "Anchorage", "AK", "America/Anchorage"),
    ("HFO", 21.3, -157.9, "Honolulu", "HI", "Pacific/Honolulu"),
    ("SJU", 18.4, -66.1, "San Juan", "PR", "America/Puerto_Rico"),
    ("GUM", 13.5, 144.8, "Hagatna", "GU", "Pacific/Guam"),
];

/// Boxes around the land that is covered: south, north, west, east.
const COVERED: [(f64, f64, f64, f64); 5] = [
    (24.4, 49.4, -125.0, -66.9),
    (51.0, 71.5, -180.0, -129.0),
    (18.8, 22.3, -160.3, -154.7),
    (17.6, 18.6, -67.4, -65.1),
    (13.2, 13.7, 144.6, 145.0),
];

#[derive(Debug, PartialEq)]
pub(super) enum Reading {
    Place(Place),
    /// The same point as the service spells it.
    Spelled(String),
    Uncovered,
    NotACoordinate,
}

pub(super) fn read(text: &str) -> Reading {
    let Some((latitude, longitude)) = text.split_once(',') else {
        return Reading::NotACoordinate;
    };
    let number = |text: &str| {
        let plain = text.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | '.'));
        text.parse::<f64>().ok().filter(|_| plain)
    };
    let (Some(north), Some(east)) = (number(latitude), number(longitude)) else {
        return Reading::NotACoordinate;
    };
    if north.abs() > 90.0 || east.abs() > 180.0 {
        return Reading::NotACoordinate;
    }
    let spelled = format!("{},{}", spell(north), spell(east));
    if spelled != text {
        return Reading::Spelled(spelled);
    }
    if COVERED
        .iter()
        .any(|(s, n, w, e)| (*s..=*n).contains(&north) && (*w..=*e).contains(&east))
    {
        Reading::Place(nearest(north, east))
    } else {
        Reading::Uncovered
    }
}

/// At most four decimals, no zeros at the end.
fn spell(degrees: f64) -> String {
    let text = format!("{degrees:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" {
        "0".to_owned()
    } else {
        text.to_owned()
    }
}

/// Cells are 2.5 km wide, about 40 to a degree; offices sit in the middle of a grid of 250 by 250 here.
fn nearest(north: f64, east: f64) -> Place {
    let distance = |office: &&(&str, f64, f64, &str, &str, &str)| (office.1 - north).hypot(office.2 - east);
    let office = OFFICES
        .iter()
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .unwrap_or(&OFFICES[0]);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to the grid before"
    )]
    let cell = |offset: f64| offset.mul_add(40.0, 125.0).round().clamp(1.0, 2000.0) as u32;
    Place {
        office: office.0,
        x: cell(east - office.2),
        y: cell(north - office.1),
        city: office.3,
        state: office.4,
        zone: office.5,
    }
}

pub(super) fn is_office(name: &str) -> bool {
    OFFICES.iter().any(|office| office.0 == name)
}

/// Offices of the west coast have the rainy forecast.
pub(super) fn is_rainy(office: &str) -> bool {
    ["SEW", "PQR", "MTR", "AFC"].contains(&office)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_read_like_the_service_does() {
        let spelled = |text: &str| Reading::Spelled(text.into());
        assert_eq!(read("47.65531,-122.53542"), spelled("47.6553,-122.5354"));
        assert_eq!(read("47.60,-122.3"), spelled("47.6,-122.3"));
        assert_eq!(read("40.0,-75"), spelled("40,-75"));
        assert_eq!(read("-20.9512,55.3085"), Reading::Uncovered);
        for bad in ["999,999", "a,b", "1", "1,2,3", "NaN,1", "1e3,2", "", "91,0"] {
            assert_eq!(read(bad), Reading::NotACoordinate, "{bad}");
        }
        let Reading::Place(place) = read("47.6062,-122.3321") else {
            panic!("Seattle is covered")
        };
        assert_eq!((place.office, place.x, place.y), ("SEW", 124, 125));
    }
}
