//! Documents that the replay serves, made from the fixtures.
//! In: a place, an office or a state, and now. Out: GeoJSON.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::place::{Place, is_rainy};
use super::template::resolve;

#[derive(Debug)]
pub(super) struct Fixtures {
    point: Value,
    rainy: Value,
    dry: Value,
    alerts: Value,
    flood_watch: Value,
}

/// States that have alerts, by the numbers of those in alerts.json; the flood watch comes on top.
const ALERTS: [(&str, &[usize], bool); 7] = [
    ("CA", &[2, 5], false),
    ("TX", &[4], false),
    ("MN", &[0, 1], false),
    ("PA", &[3], false),
    ("LA", &[7], false),
    ("WA", &[], true),
    ("OR", &[], true),
];

impl Fixtures {
    pub(super) fn load() -> serde_json::Result<Self> {
        Ok(Self {
            point: serde_json::from_str(include_str!("fixtures/point.json"))?,
            rainy: serde_json::from_str(include_str!("fixtures/forecast_sew.json"))?,
            dry: serde_json::from_str(include_str!("fixtures/forecast_oax.json"))?,
            alerts: serde_json::from_str(include_str!("fixtures/alerts.json"))?,
            flood_watch: serde_json::from_str(include_str!("fixtures/flood_watch.json"))?,
        })
    }

    pub(super) fn point(&self, spelled: &str, place: &Place, now: Timestamp) -> Value {
        let mut point = self.point.clone();
        let url = format!("https://api.weather.gov/points/{spelled}");
        let grid = format!(
            "https://api.weather.gov/gridpoints/{}/{},{}",
            place.office, place.x, place.y
        );
        let (latitude, longitude) = spelled.split_once(',').unwrap_or_default();
        let degrees = |text: &str| text.parse::<f64>().map_or(Value::Null, Value::from);
        point["id"] = json!(url);
        point["geometry"]["coordinates"] = json!([degrees(longitude), degrees(latitude)]);
        let properties = &mut point["properties"];
        properties["@id"] = json!(url);
        properties["cwa"] = json!(place.office);
        properties["gridId"] = json!(place.office);
        properties["gridX"] = json!(place.x);
        properties["gridY"] = json!(place.y);
        properties["forecastOffice"] = json!(format!("https://api.weather.gov/offices/{}", place.office));
        properties["forecast"] = json!(format!("{grid}/forecast"));
        properties["forecastHourly"] = json!(format!("{grid}/forecast/hourly"));
        properties["forecastGridData"] = json!(grid);
        properties["observationStations"] = json!(format!("{grid}/stations"));
        properties["timeZone"] = json!(place.zone);
        properties["relativeLocation"]["properties"]["city"] = json!(place.city);
        properties["relativeLocation"]["properties"]["state"] = json!(place.state);
        resolve(&mut point, now);
        point
    }

    pub(super) fn forecast(&self, office: &str, now: Timestamp) -> Value {
        let mut forecast = if is_rainy(office) {
            self.rainy.clone()
        } else {
            self.dry.clone()
        };
        resolve(&mut forecast, now);
        forecast
    }

    pub(super) fn alerts(&self, area: &str, now: Timestamp) -> Value {
        let (numbers, flood) = ALERTS
            .iter()
            .find(|row| row.0 == area)
            .map_or((&[][..], false), |row| (row.1, row.2));
        let mut features: Vec<Value> = numbers
            .iter()
            .map(|number| self.alerts["features"][number].clone())
            .collect();
        features.extend(flood.then(|| self.flood_watch.clone()));
        let mut collection = json!({
            "@context": self.alerts["@context"],
            "type": "FeatureCollection",
            "features": features,
            "title": format!("Current watches, warnings, and advisories for {area}"),
            "updated": "date:now -60 seconds",
        });
        resolve(&mut collection, now);
        collection
    }
}
