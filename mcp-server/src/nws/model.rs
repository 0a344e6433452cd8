//! The parts of NWS documents that we use (openapi.yaml 1.9.0): bytes go in, weather comes out.
//!
//! Leaves may be missing, null or of another type: they become `None`. What a document is made of (`features`, `periods`,
//! the grid) must be there, since "no alerts" read out of a broken answer is dangerous.

use super::error::NwsError;
use serde::{Deserialize, Deserializer};
use serde_json::{Number, Value};
use std::fmt;

/// One alert.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Alert {
    /// Kind of alert.
    #[serde(deserialize_with = "text")]
    pub event: Option<String>,
    /// Places, separated by semicolons.
    #[serde(deserialize_with = "text")]
    pub area_desc: Option<String>,
    /// Extreme, Severe, Moderate, Minor, Unknown.
    #[serde(deserialize_with = "text")]
    pub severity: Option<String>,
    /// What is expected.
    #[serde(deserialize_with = "text")]
    pub description: Option<String>,
    /// What to do; often null.
    #[serde(deserialize_with = "text")]
    pub instruction: Option<String>,
}

impl Alert {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let Alert {
            event,
            area_desc,
            severity,
            description,
            instruction,
        } = self;
        weight([event, area_desc, severity, description, instruction])
    }
}

/// One period of a forecast.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Period {
    /// For example "Tonight"; can be empty.
    #[serde(deserialize_with = "text")]
    pub name: Option<String>,
    /// A number today, a quantity with a unit once the service drops the old form.
    #[serde(deserialize_with = "temperature")]
    pub temperature: Temperature,
    /// "F" or "C".
    #[serde(deserialize_with = "text")]
    temperature_unit: Option<String>,
    /// For example "5 to 10 mph".
    #[serde(deserialize_with = "text")]
    pub wind_speed: Option<String>,
    /// For example "SSE".
    #[serde(deserialize_with = "text")]
    pub wind_direction: Option<String>,
    /// A few words.
    #[serde(deserialize_with = "text")]
    pub short_forecast: Option<String>,
    /// A sentence or two; can be empty.
    #[serde(deserialize_with = "text")]
    pub detailed_forecast: Option<String>,
}

impl Period {
    /// About how many bytes it takes.
    pub fn weight(&self) -> usize {
        let Period {
            name,
            temperature: _,
            temperature_unit,
            wind_speed,
            wind_direction,
            short_forecast,
            detailed_forecast,
        } = self;
        weight([
            name,
            temperature_unit,
            wind_speed,
            wind_direction,
            short_forecast,
            detailed_forecast,
        ])
    }

    /// Unit of the temperature.
    pub fn unit(&self) -> &str {
        self.temperature
            .unit
            .as_deref()
            .or(self.temperature_unit.as_deref())
            .unwrap_or("F")
    }
}

fn weight<const N: usize>(texts: [&Option<String>; N]) -> usize {
    let own = texts.iter().map(|text| text.as_ref().map_or(0, String::capacity));
    own.sum::<usize>() + N * size_of::<Option<String>>() + 64
}

/// A temperature in either form.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Temperature {
    /// As the service wrote it.
    pub value: Option<Number>,
    unit: Option<String>,
}

/// A cell of the forecast grid. Its parts go into a path, so they are checked here, once.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Grid {
    office: String,
    x: u16,
    y: u16,
}

impl fmt::Display for Grid {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}/{},{}", self.office, self.x, self.y)
    }
}

/// The alerts of a FeatureCollection.
pub fn read_alerts(body: &[u8]) -> Result<Vec<Alert>, NwsError> {
    #[derive(Deserialize)]
    struct Collection {
        features: Vec<Option<Feature>>,
    }
    #[derive(Deserialize)]
    struct Feature {
        #[serde(default)]
        properties: Option<Alert>,
    }
    let collection: Collection =
        serde_json::from_slice(body).map_err(|_| NwsError::Malformed("no list of alerts"))?;
    let alerts = collection.features.into_iter().flatten();
    Ok(alerts
        .map(|feature| feature.properties.unwrap_or_default())
        .collect())
}

/// The grid cell of a point.
pub fn read_grid(body: &[u8]) -> Result<Grid, NwsError> {
    #[derive(Deserialize)]
    struct Cell {
        #[serde(rename = "gridId")]
        office: String,
        #[serde(rename = "gridX")]
        x: u16,
        #[serde(rename = "gridY")]
        y: u16,
    }
    let cell: Cell = read_properties(body, "no grid cell")?;
    let is_office = (2..=4).contains(&cell.office.len())
        && cell
            .office
            .bytes()
            .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if !is_office {
        return Err(NwsError::Malformed("a grid cell of no office"));
    }
    Ok(Grid {
        office: cell.office,
        x: cell.x,
        y: cell.y,
    })
}

/// The periods of a forecast, soonest first; never empty.
pub fn read_forecast(body: &[u8]) -> Result<Vec<Period>, NwsError> {
    #[derive(Deserialize)]
    struct Forecast {
        periods: Vec<Period>,
    }
    let forecast: Forecast = read_properties(body, "no forecast periods")?;
    if forecast.periods.is_empty() {
        return Err(NwsError::Malformed("a forecast without periods"));
    }
    Ok(forecast.periods)
}

fn read_properties<'de, T: Deserialize<'de>>(body: &'de [u8], missing: &'static str) -> Result<T, NwsError> {
    #[derive(Deserialize)]
    struct Feature<T> {
        properties: T,
    }
    let feature: Feature<T> = serde_json::from_slice(body).map_err(|_| NwsError::Malformed(missing))?;
    Ok(feature.properties)
}

/// Text without control characters, which have no business in what a model reads; empty is none.
fn text<'de, D: Deserializer<'de>>(value: D) -> Result<Option<String>, D::Error> {
    Ok(match Value::deserialize(value)? {
        Value::String(mut text) => {
            text.retain(|letter| !letter.is_control() || letter == '\n' || letter == '\t');
            (!text.trim().is_empty()).then_some(text)
        }
        _ => None,
    })
}

fn temperature<'de, D: Deserializer<'de>>(value: D) -> Result<Temperature, D::Error> {
    Ok(match Value::deserialize(value)? {
        Value::Number(number) => Temperature {
            value: Some(number),
            unit: None,
        },
        Value::Object(quantity) => Temperature {
            value: quantity.get("value").and_then(Value::as_number).cloned(),
            // "wmoUnit:degC"
            unit: quantity.get("unitCode").and_then(Value::as_str).map(|unit| {
                let letters = unit.rsplit(':').next().unwrap_or(unit).trim_start_matches("deg");
                letters
                    .chars()
                    .filter(char::is_ascii_alphanumeric)
                    .take(8)
                    .collect()
            }),
        },
        _ => Temperature::default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_fixtures() {
        let alerts = read_alerts(include_bytes!(
            "../../tests/fixtures/pynws_alerts_active_zone.json"
        ))
        .unwrap();
        assert_eq!(alerts.len(), 1);
        assert_eq!(alerts[0].event.as_deref(), Some("Flood Watch"));
        let alerts = read_alerts(include_bytes!(
            "../../tests/fixtures/wxgov_loadtest_alerts_active.json"
        ))
        .unwrap();
        assert_eq!(alerts.len(), 8);
        let grid = read_grid(include_bytes!("../../tests/fixtures/pynws_points.json")).unwrap();
        assert_eq!(grid.to_string(), "TAE/58,65");
        let periods = read_forecast(include_bytes!(
            "../../tests/fixtures/pynws_gridpoints_forecast_us.json"
        ))
        .unwrap();
        assert_eq!(periods[0].detailed_forecast, None, "empty is none");
        assert_eq!(
            periods[0].short_forecast.as_deref(),
            Some("Chance Showers And Thunderstorms")
        );
    }

    #[test]
    fn a_broken_collection_is_not_an_empty_one() {
        for body in [
            &b"{}"[..],
            br#"{"features":null}"#,
            br#"{"features":{}}"#,
            b"[]",
            b"",
            b"<html>",
        ] {
            assert!(matches!(read_alerts(body), Err(NwsError::Malformed(_))));
        }
        assert_eq!(
            read_alerts(br#"{"features":[null,{"properties":null},{}]}"#)
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn a_grid_cannot_smuggle_a_path() {
        for (office, x) in [
            ("../../x", "1"),
            ("T/E", "1"),
            ("tae", "1"),
            ("", "1"),
            ("TAE", "-1"),
            ("TAE", "\"1\""),
            ("TOOLONG", "1"),
        ] {
            let body = format!(
                r#"{{"properties":{{"gridId":"{office}","gridX":{x},"gridY":2,"forecast":"https://evil.example/"}}}}"#
            );
            assert!(read_grid(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn leaves_of_other_types_are_none() {
        let body = br#"{"properties":{"periods":[
            {"name":5,"temperature":{"unitCode":"wmoUnit:degC","value":-3.5},"windSpeed":null,"detailedForecast":"a\u0007b\nc"},
            {"temperature":null},{"temperature":{"value":null}}]}}"#;
        let periods = read_forecast(body).unwrap();
        assert_eq!(periods[0].name, None);
        assert_eq!(periods[0].temperature.value.as_ref().unwrap().to_string(), "-3.5");
        assert_eq!(periods[0].unit(), "C");
        assert_eq!(periods[0].detailed_forecast.as_deref(), Some("ab\nc"));
        assert_eq!(periods[1].temperature, Temperature::default());
        assert_eq!(periods[2].temperature.value, None);
        assert!(read_forecast(br#"{"properties":{"periods":[]}}"#).is_err());
    }
}
