//! Weather goes in, the members of a tool result come out: text for a model, structure for a program, as JSON text ready to be copied.

use super::point::Point;
use crate::nws::model::{Alert, Period};
use crate::protocol::answer::push_string;
use bytes::Bytes;
use jiff::{Timestamp, Unit};
use serde::Serialize;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

/// Periods that are shown: today and the next two days.
pub const SHOWN_PERIODS: usize = 5;
const UNKNOWN: &str = "Unknown";
/// What is before the text in every tool result.
const TEXT: &[u8] = br#""content":[{"type":"text","text":"#;
const SEPARATOR: &str = "\n---\n";

/// Members of a tool result, as JSON text without braces; cheap to clone.
#[derive(Debug, Clone)]
pub struct Rendered {
    /// `"content":[...]` and so on.
    pub members: Bytes,
    /// Whether it says `isError`.
    pub is_error: bool,
}

impl Rendered {
    /// The text for a model, as a JSON string. It comes first in every tool result.
    pub fn text_json(&self) -> &[u8] {
        let text = self.members.strip_prefix(TEXT).unwrap_or_default();
        let mut escaped = true;
        let end = text.iter().position(|byte| match byte {
            // The opening quote is skipped like an escaped one.
            _ if escaped => {
                escaped = false;
                false
            }
            b'\\' => {
                escaped = true;
                false
            }
            byte => *byte == b'"',
        });
        end.map_or(&[], |end| &text[..=end])
    }
}

/// An error that the model should read.
pub fn failure(text: &str) -> Rendered {
    let mut out = Vec::with_capacity(text.len() + 64);
    push_content(&mut out, text);
    out.extend_from_slice(br#","isError":true"#);
    Rendered {
        members: out.into(),
        is_error: true,
    }
}

fn success(text: &str, structured: &impl Serialize) -> Result<Rendered, serde_json::Error> {
    let mut out = Vec::with_capacity(2 * text.len() + 128);
    push_content(&mut out, text);
    out.extend_from_slice(br#","structuredContent":"#);
    serde_json::to_writer(&mut out, structured)?;
    out.extend_from_slice(br#","isError":false"#);
    Ok(Rendered {
        members: out.into(),
        is_error: false,
    })
}

/// How old an answer is.
#[derive(Debug, Clone, Copy)]
pub struct Age {
    /// When the service said so.
    pub as_of: SystemTime,
    /// Set when it should have been asked again but could not be: the age of its last answer.
    pub stale_for: Option<Duration>,
}

impl Age {
    /// RFC 3339, in UTC.
    fn as_of(self) -> String {
        let time = Timestamp::try_from(self.as_of).unwrap_or_default();
        time.round(Unit::Second).unwrap_or(time).to_string()
    }

    /// What must be read before anything that is stale.
    fn warning(self, then: &str) -> Option<String> {
        // Rounded up: too old is the safe side.
        let minutes = self.stale_for?.as_secs().div_ceil(60).max(1);
        let ago = match minutes {
            1 => "1 minute".to_owned(),
            2..120 => format!("{minutes} minutes"),
            _ => format!("{} hours", minutes.div_ceil(60)),
        };
        Some(format!(
            "STALE: the National Weather Service cannot be asked at the moment. {then}, {ago} ago (asOf {}).",
            self.as_of()
        ))
    }
}

fn push_content(out: &mut Vec<u8>, text: &str) {
    out.extend_from_slice(TEXT);
    push_string(out, text);
    out.extend_from_slice(b"}]");
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct AlertsOut<'a> {
    alerts: Vec<AlertOut<'a>>,
    as_of: String,
    stale: bool,
}

#[derive(Serialize)]
struct AlertOut<'a> {
    event: &'a str,
    area: &'a str,
    severity: &'a str,
    description: &'a str,
    instructions: &'a str,
}

/// The answer of get_alerts.
pub fn alerts(alerts: &[Alert], age: Age) -> Result<Rendered, serde_json::Error> {
    let alerts: Vec<AlertOut<'_>> = alerts
        .iter()
        .map(|alert| AlertOut {
            event: alert.event.as_deref().unwrap_or(UNKNOWN),
            area: alert.area_desc.as_deref().unwrap_or(UNKNOWN),
            severity: alert.severity.as_deref().unwrap_or(UNKNOWN),
            description: alert.description.as_deref().unwrap_or("No description available"),
            instructions: alert
                .instruction
                .as_deref()
                .unwrap_or("No specific instructions provided"),
        })
        .collect();
    let warning = age.warning("This is what it said when it last answered");
    let mut text = warning.as_ref().map_or_else(String::new, |warning| {
        format!("{warning} Alerts issued since then are missing here, and some of these may have ended.")
    });
    for alert in &alerts {
        if !text.is_empty() {
            text.push_str(SEPARATOR);
        }
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "Event: {}\nArea: {}\nSeverity: {}\nDescription: {}\nInstructions: {}",
            alert.event, alert.area, alert.severity, alert.description, alert.instructions
        );
    }
    if alerts.is_empty() {
        text = no_alerts(age);
    }
    success(
        &text,
        &AlertsOut {
            alerts,
            as_of: age.as_of(),
            stale: age.stale_for.is_some(),
        },
    )
}

/// When stale this must not read as an all-clear, not even to someone who skims it.
fn no_alerts(age: Age) -> String {
    age.warning("There were no active alerts for this state when it last answered")
        .map_or_else(
            || "No active alerts for this state.".to_owned(),
            |warning| {
                format!(
                    "{warning} Whether there are any now is not known: do not take this as an all-clear. Try again soon."
                )
            },
        )
}

#[derive(Serialize)]
struct ForecastOut<'a> {
    latitude: f64,
    longitude: f64,
    periods: Vec<PeriodOut<'a>>,
    #[serde(rename = "asOf")]
    as_of: String,
    stale: bool,
}

#[derive(Serialize)]
struct PeriodOut<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    temperature: Option<serde_json::Number>,
    temperature_unit: &'a str,
    wind_speed: &'a str,
    wind_direction: &'a str,
    detailed_forecast: &'a str,
}

/// The answer of get_forecast.
pub fn forecast(point: Point, periods: &[Period], age: Age) -> Result<Rendered, serde_json::Error> {
    let periods: Vec<PeriodOut<'_>> = periods
        .iter()
        .take(SHOWN_PERIODS)
        .map(|period| PeriodOut {
            name: period.name.as_deref().unwrap_or(UNKNOWN),
            temperature: period.temperature.value.clone(),
            temperature_unit: period.unit(),
            wind_speed: period.wind_speed.as_deref().unwrap_or(UNKNOWN),
            wind_direction: period.wind_direction.as_deref().unwrap_or(""),
            detailed_forecast: period
                .detailed_forecast
                .as_deref()
                .or(period.short_forecast.as_deref())
                .unwrap_or("No forecast available"),
        })
        .collect();
    let warning = age.warning("This is the forecast that it gave when it last answered");
    let mut text = warning.unwrap_or_default();
    for period in &periods {
        if !text.is_empty() {
            text.push_str(SEPARATOR);
        }
        let temperature = period.temperature.as_ref().map_or_else(
            || UNKNOWN.into(),
            |value| format!("{value}°{}", period.temperature_unit),
        );
        let wind = format!("{} {}", period.wind_speed, period.wind_direction);
        // Writing to a String cannot fail.
        let _ = write!(
            text,
            "{}:\nTemperature: {temperature}\nWind: {}\nForecast: {}",
            period.name,
            wind.trim_end(),
            period.detailed_forecast
        );
    }
    success(
        &text,
        &ForecastOut {
            latitude: point.latitude(),
            longitude: point.longitude(),
            periods,
            as_of: age.as_of(),
            stale: age.stale_for.is_some(),
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::nws::model::{read_alerts, read_forecast};
    use serde_json::{Value, json};

    const AS_OF: &str = "2026-07-28T12:00:00Z";

    fn age(stale_for: Option<Duration>) -> Age {
        Age {
            as_of: SystemTime::UNIX_EPOCH + Duration::from_hours(495_900),
            stale_for,
        }
    }

    fn read(rendered: &Rendered) -> Value {
        serde_json::from_str(&format!(
            "{{{}}}",
            std::str::from_utf8(&rendered.members).unwrap()
        ))
        .unwrap()
    }

    #[test]
    fn alerts_with_nulls_read_well() {
        let body = br#"{"features":[
            {"properties":{"event":"Flood Watch","areaDesc":"Coast","severity":"Severe","description":"Rain.","instruction":null}},
            {"properties":{"event":null}}]}"#;
        let result = read(&alerts(&read_alerts(body).unwrap(), age(None)).unwrap());
        assert_eq!(
            result["content"][0]["text"],
            "Event: Flood Watch\nArea: Coast\nSeverity: Severe\nDescription: Rain.\nInstructions: No specific instructions provided\n---\n\
             Event: Unknown\nArea: Unknown\nSeverity: Unknown\nDescription: No description available\nInstructions: No specific instructions provided"
        );
        assert_eq!(result["structuredContent"]["alerts"][0]["event"], "Flood Watch");
        assert_eq!(result["isError"], false);
    }

    #[test]
    fn the_text_is_found_again() {
        for text in [
            "",
            "x",
            "\"",
            "a \\",
            "\\\"",
            "\n\"}],\"structuredContent\":",
            "é\u{1}",
        ] {
            let found = failure(text);
            assert_eq!(
                serde_json::from_slice::<String>(found.text_json()).unwrap(),
                text,
                "{found:?}"
            );
        }
    }

    #[test]
    fn no_alerts_is_said_in_both_forms() {
        let result = read(&alerts(&[], age(None)).unwrap());
        assert_eq!(result["content"][0]["text"], "No active alerts for this state.");
        assert_eq!(
            result["structuredContent"],
            json!({"alerts": [], "asOf": AS_OF, "stale": false})
        );
    }

    #[test]
    fn stale_alerts_say_so_first() {
        let old = age(Some(Duration::from_secs(421)));
        let result = read(&alerts(&[], old).unwrap());
        assert_eq!(
            result["content"][0]["text"],
            "STALE: the National Weather Service cannot be asked at the moment. There were no active alerts for this state \
             when it last answered, 8 minutes ago (asOf 2026-07-28T12:00:00Z). Whether there are any now is not known: \
             do not take this as an all-clear. Try again soon."
        );
        assert_eq!(
            result["structuredContent"],
            json!({"alerts": [], "asOf": AS_OF, "stale": true})
        );
        let result = read(&alerts(&[Alert::default()], old).unwrap());
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(
            text.starts_with("STALE: ")
                && text.contains("some of these may have ended.\n---\nEvent: Unknown\n"),
            "{text}"
        );
        assert_eq!(result["structuredContent"]["stale"], true);
    }

    #[test]
    fn a_stale_forecast_says_so_first() {
        for (seconds, ago) in [
            (0, "1 minute"),
            (61, "2 minutes"),
            (7140, "119 minutes"),
            (7141, "2 hours"),
            (21_599, "6 hours"),
        ] {
            let old = age(Some(Duration::from_secs(seconds)));
            let result = read(&forecast(Point::from_degrees(1.0, 2.0), &[Period::default()], old).unwrap());
            let text = result["content"][0]["text"].as_str().unwrap();
            let said = format!(
                "STALE: the National Weather Service cannot be asked at the moment. This is the forecast that it gave when it \
                 last answered, {ago} ago (asOf {AS_OF}).\n---\nUnknown:\n"
            );
            assert!(text.starts_with(&said), "{text}");
            assert_eq!(
                (
                    &result["structuredContent"]["stale"],
                    &result["structuredContent"]["asOf"]
                ),
                (&json!(true), &json!(AS_OF))
            );
        }
    }

    #[test]
    fn forecasts_show_five_periods() {
        let body = include_bytes!("../../tests/fixtures/wxgov_testing_gridpoints_OAX_forecast.json");
        let point = Point::from_degrees(41.23, -96.6);
        let result = read(&forecast(point, &read_forecast(body).unwrap(), age(None)).unwrap());
        let text = result["content"][0]["text"].as_str().unwrap();
        assert!(text.starts_with(
            "Tonight:\nTemperature: 16°F\nWind: 2 to 6 mph SSE\nForecast: Partly cloudy, with a low around 16."
        ));
        assert_eq!(text.matches(SEPARATOR).count(), 4);
        assert_eq!(
            result["structuredContent"]["periods"].as_array().unwrap().len(),
            5
        );
        assert_eq!(result["structuredContent"]["latitude"], 41.23);
        assert_eq!(result["structuredContent"]["periods"][0]["temperature"], 16);
    }
}
