//! The two tools: arguments as a model wrote them go in, work that cannot be wrong comes out; and back, weather becomes an answer.

pub mod catalog;
pub mod point;
pub mod render;
pub mod state;

use crate::protocol::answer::RenderedId;
use crate::protocol::json::{Json, Object};
use crate::protocol::revision::Era;
use point::Point;
use state::{HINT, State};

/// A tools/call, or a resources/read that does the work of one, ready to be run.
#[derive(Debug)]
pub struct Call {
    /// To be echoed.
    pub id: RenderedId,
    /// How to answer.
    pub era: Era,
    /// What to do.
    pub work: Work,
}

/// What a tools/call asks for.
#[derive(Debug, PartialEq)]
pub enum Work {
    /// get_alerts
    Alerts(State),
    /// get_forecast
    Forecast(Point),
    /// resources/read of the alerts of a state, with the URI to be echoed
    ReadAlerts(State, String),
    /// A tool that exists, with arguments that do not fit; the text says what to pass instead.
    BadArguments(Tool, String),
    /// A tool that does not exist.
    UnknownTool(String),
}

/// Name of a tool, as a metric label.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// get_alerts
    GetAlerts,
    /// get_forecast
    GetForecast,
    /// Any name that is not a tool of ours.
    Other,
    /// No tool: resources/read of alerts, which does the same work as get_alerts.
    AlertsResource,
}

impl Tool {
    /// All, in the order of their discriminants.
    pub const ALL: [Tool; 4] = [
        Tool::GetAlerts,
        Tool::GetForecast,
        Tool::Other,
        Tool::AlertsResource,
    ];

    /// As on the wire and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Tool::GetAlerts => "get_alerts",
            Tool::GetForecast => "get_forecast",
            Tool::Other => "other",
            Tool::AlertsResource => "alerts_resource",
        }
    }
}

/// An argument that clients of 2026-07-28 repeat in a header, so that gateways can route by it
/// (streamable-http, Custom Headers from Tool Parameters).
#[derive(Debug)]
pub struct Mirror {
    /// Name of the argument.
    pub argument: &'static str,
    /// The value of `x-mcp-header` in its schema.
    pub name: &'static str,
    /// The header, in lower case.
    pub header: &'static str,
}

/// The state of get_alerts. Coordinates are numbers, which may not be mirrored.
pub const STATE_MIRROR: Mirror = Mirror {
    argument: "state",
    name: "State",
    header: "mcp-param-state",
};

/// The argument of the tool `name` that is mirrored.
pub fn mirror_of(name: &str) -> Option<&'static Mirror> {
    (name == "get_alerts").then_some(&STATE_MIRROR)
}

impl Work {
    /// Read the arguments of the tool `name`.
    pub fn read(name: &str, arguments: &Object<'_>) -> Work {
        let (tool, work) = match name {
            "get_alerts" => (Tool::GetAlerts, read_alerts(arguments)),
            "get_forecast" => (Tool::GetForecast, read_forecast(arguments)),
            _ => return Work::UnknownTool(name.chars().take(80).collect()),
        };
        work.unwrap_or_else(|text| Work::BadArguments(tool, text))
    }

    /// Which tool this is.
    pub fn tool(&self) -> Tool {
        match self {
            Work::Alerts(_) => Tool::GetAlerts,
            Work::Forecast(_) => Tool::GetForecast,
            Work::ReadAlerts(..) => Tool::AlertsResource,
            Work::BadArguments(tool, _) => *tool,
            Work::UnknownTool(_) => Tool::Other,
        }
    }
}

fn read_alerts(arguments: &Object<'_>) -> Result<Work, String> {
    refuse_unknown(arguments, &["state"])?;
    let text = match arguments.get("state") {
        Some(Json::String(text)) => text,
        Some(_) => return Err(format!("\"state\" must be a string: {HINT}.")),
        None => return Err(format!("\"state\" is missing: {HINT}.")),
    };
    State::parse(text)
        .map(Work::Alerts)
        .ok_or_else(|| format!("{} is not a US state or territory: {HINT}.", quote(text)))
}

fn read_forecast(arguments: &Object<'_>) -> Result<Work, String> {
    refuse_unknown(arguments, &["latitude", "longitude"])?;
    let latitude = read_degrees(arguments, "latitude", 90.0, "47.6062")?;
    let longitude = read_degrees(arguments, "longitude", 180.0, "-122.3321")?;
    Ok(Work::Forecast(Point::from_degrees(latitude, longitude)))
}

fn read_degrees(arguments: &Object<'_>, name: &str, limit: f64, example: &str) -> Result<f64, String> {
    let wanted = format!("pass a number of degrees from -{limit} to {limit}, such as {example}");
    match arguments.get(name) {
        Some(Json::Number(text)) => match text.parse::<f64>() {
            Ok(degrees) if degrees.abs() <= limit => Ok(degrees),
            _ => Err(format!("\"{name}\" is out of range: {wanted}.")),
        },
        Some(_) => Err(format!(
            "\"{name}\" must be a JSON number, without quotes: {wanted}."
        )),
        None => Err(format!("\"{name}\" is missing: {wanted}.")),
    }
}

/// An error if there is another argument than the `known` ones.
pub(crate) fn refuse_unknown(arguments: &Object<'_>, known: &[&str]) -> Result<(), String> {
    match arguments
        .0
        .iter()
        .find(|(name, _)| !known.contains(&name.as_ref()))
    {
        None => Ok(()),
        Some((name, _)) => Err(format!(
            "Unknown argument {}: pass {}.",
            quote(name),
            known.join(" and ")
        )),
    }
}

/// A piece of what the caller sent, short and without control characters.
pub(crate) fn quote(text: &str) -> String {
    let short: String = text
        .chars()
        .filter(|letter| !letter.is_control())
        .take(40)
        .collect();
    format!("\"{short}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::json::parse;

    fn read(name: &str, arguments: &str) -> Work {
        let Json::Object(arguments) = parse(arguments.as_bytes()).unwrap() else {
            panic!("arguments")
        };
        Work::read(name, &arguments)
    }

    #[test]
    fn good_arguments_become_work() {
        assert!(
            matches!(read("get_alerts", r#"{"state":"ca"}"#), Work::Alerts(state) if state.code() == "CA")
        );
        assert!(
            matches!(read("get_alerts", r#"{"state":" new  York "}"#), Work::Alerts(state) if state.code() == "NY")
        );
        let Work::Forecast(point) = read("get_forecast", r#"{"latitude":47.60621234,"longitude":-122.33}"#)
        else {
            panic!("no forecast")
        };
        assert_eq!(point.to_string(), "47.6062,-122.33");
        assert!(matches!(
            read("get_forecast", r#"{"latitude":-0,"longitude":1e2}"#),
            Work::Forecast(_)
        ));
    }

    #[test]
    fn bad_arguments_say_what_to_pass() {
        for (name, arguments, part) in [
            ("get_alerts", "{}", "\"state\" is missing: pass a two-letter code"),
            ("get_alerts", r#"{"state":5}"#, "must be a string"),
            (
                "get_alerts",
                r#"{"state":"Kanada"}"#,
                "\"Kanada\" is not a US state",
            ),
            (
                "get_alerts",
                r#"{"State":"CA"}"#,
                "Unknown argument \"State\": pass state.",
            ),
            (
                "get_forecast",
                r#"{"latitude":"47.6","longitude":1}"#,
                "without quotes",
            ),
            (
                "get_forecast",
                r#"{"latitude":1e309,"longitude":1}"#,
                "\"latitude\" is out of range",
            ),
            (
                "get_forecast",
                r#"{"latitude":1,"longitude":-181}"#,
                "from -180 to 180",
            ),
            ("get_forecast", r#"{"latitude":1}"#, "\"longitude\" is missing"),
            (
                "get_forecast",
                r#"{"latitude":null,"longitude":1}"#,
                "must be a JSON number",
            ),
        ] {
            let Work::BadArguments(_, text) = read(name, arguments) else {
                panic!("{arguments} was accepted")
            };
            assert!(text.contains(part), "{arguments}: {text}");
        }
        assert_eq!(read("get-alerts", "{}"), Work::UnknownTool("get-alerts".into()));
    }

    #[test]
    fn the_header_of_a_mirror_is_made_of_its_name() {
        let header = format!("Mcp-Param-{}", STATE_MIRROR.name).to_ascii_lowercase();
        assert_eq!(STATE_MIRROR.header, header);
        assert!(mirror_of("get_alerts").is_some() && mirror_of("get_forecast").is_none());
    }

    #[test]
    fn no_argument_reaches_a_path() {
        let long = "A".repeat(10_000);
        for state in [
            "CA/../../points/1,1",
            "CA?x=1",
            "C%41",
            "CA\\r\\nX: y",
            "\u{212a}S",
            "\u{17f}d",
            "",
            &long,
        ] {
            let work = read("get_alerts", &format!(r#"{{"state":"{state}"}}"#));
            let Work::BadArguments(Tool::GetAlerts, text) = work else {
                panic!("{state} was accepted")
            };
            assert!(text.len() < 300 && !text.contains('\r'), "{text}");
        }
    }
}
