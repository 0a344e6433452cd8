//! The same two tools on plain rmcp, as its users would write them and with its fastest settings: what the weather server is
//! measured by and compared with.
//!
//! In: a port, the weather service's URL. Out: POST /mcp, without sessions, answers as plain JSON. Tools and the answers to calls
//! are kept ready, as in the weather server, so that neither the weather service nor its JSON is measured.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use axum::Router;
use axum::serve::ListenerExt;
use jiff::{Timestamp, Unit};
use rmcp::model::{
    CacheScope, CallToolRequestParams, CallToolResponse, CallToolResult, ContentBlock, ErrorData,
    Implementation, ListToolsResult, PaginatedRequestParams, ServerCapabilities, ServerConfig, Tool,
};
use rmcp::service::RequestContext;
use rmcp::transport::streamable_http_server::session::never::NeverSessionManager;
use rmcp::transport::streamable_http_server::{StreamableHttpServerConfig, StreamableHttpService};
use rmcp::{RoleServer, ServerHandler};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;

const TOOLS: &str = include_str!("tools.json");
const KEPT: Duration = Duration::from_mins(1);
/// As the weather server gives it, in milliseconds.
const LIST_FRESH: u64 = 300_000;
const SHOWN_PERIODS: usize = 5;

#[derive(Debug, Clone, clap::Args)]
pub struct Options {
    #[arg(long)]
    port: u16,
    #[arg(long, env = "NWS_BASE_URL")]
    nws_base_url: String,
}

pub async fn run(options: Options) -> Result<()> {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, options.port));
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("failed to listen on {address}"))?;
    serve(listener, &options.nws_base_url).await
}

/// Serves for ever.
pub async fn serve(listener: TcpListener, nws_base_url: &str) -> Result<()> {
    let weather = Weather(Arc::new(Shared {
        tools: serde_json::from_str(TOOLS).context("failed to read the tools")?,
        http: reqwest::Client::builder()
            .user_agent("rmcp-weather (benchmark)")
            .no_proxy()
            .build()?,
        base: nws_base_url.to_owned(),
        kept: RwLock::default(),
    }));
    let config = StreamableHttpServerConfig::default()
        .with_legacy_session_mode(false)
        .with_json_response(true);
    let sessions = Arc::<NeverSessionManager>::default();
    let service = StreamableHttpService::new(move || Ok(weather.clone()), sessions, config);
    // Without it an answer waits for the other side's acknowledgement.
    let listener = listener.tap_io(|stream| {
        let _ = stream.set_nodelay(true);
    });
    Ok(axum::serve(listener, Router::new().route_service("/mcp", service)).await?)
}

/// Cheap to clone, as rmcp asks for one per request.
#[derive(Clone)]
struct Weather(Arc<Shared>);

struct Shared {
    tools: Vec<Tool>,
    http: reqwest::Client,
    base: String,
    kept: RwLock<HashMap<String, (Instant, CallToolResult)>>,
}

#[derive(Deserialize)]
struct State {
    state: String,
}

#[derive(Deserialize)]
struct Place {
    latitude: f64,
    longitude: f64,
}

impl ServerHandler for Weather {
    fn get_info(&self) -> ServerConfig {
        ServerConfig::new(ServerCapabilities::builder().enable_tools().build())
            .with_server_info(Implementation::new("rmcp-weather", env!("CARGO_PKG_VERSION")))
    }

    fn get_tool(&self, name: &str) -> Option<Tool> {
        self.0.tools.iter().find(|tool| tool.name == name).cloned()
    }

    async fn list_tools(
        &self,
        _: Option<PaginatedRequestParams>,
        _: RequestContext<RoleServer>,
    ) -> Result<ListToolsResult, ErrorData> {
        Ok(ListToolsResult::with_all_items(self.0.tools.clone())
            .with_ttl_ms(LIST_FRESH)
            .with_cache_scope(CacheScope::Public))
    }

    async fn call_tool(
        &self,
        call: CallToolRequestParams,
        _: RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let arguments = Value::Object(call.arguments.unwrap_or_default());
        let key = format!("{} {arguments}", call.name);
        if let Some(result) = self.0.kept(&key) {
            return Ok(result.into());
        }
        let told = match call.name.as_ref() {
            "get_alerts" => self.0.alerts(&read::<State>(arguments)?).await,
            "get_forecast" => self.0.forecast(&read::<Place>(arguments)?).await,
            _ => return Err(ErrorData::invalid_params("tool not found", None)),
        };
        let (text, structured) = match told {
            Ok(told) => told,
            Err(error) => {
                let text = format!("Unable to fetch: {error:#}");
                return Ok(CallToolResult::error(vec![ContentBlock::text(text)]).into());
            }
        };
        let mut result = CallToolResult::structured(structured);
        result.content = vec![ContentBlock::text(text)];
        self.0.keep(key, result.clone());
        Ok(result.into())
    }
}

/// To the second.
fn now() -> Result<String> {
    Ok(Timestamp::now().round(Unit::Second)?.to_string())
}

fn read<T: serde::de::DeserializeOwned>(arguments: Value) -> Result<T, ErrorData> {
    serde_json::from_value(arguments).map_err(|error| ErrorData::invalid_params(error.to_string(), None))
}

impl Shared {
    fn kept(&self, key: &str) -> Option<CallToolResult> {
        let kept = self.kept.read().unwrap_or_else(PoisonError::into_inner);
        let (until, result) = kept.get(key)?;
        (*until > Instant::now()).then(|| result.clone())
    }

    fn keep(&self, key: String, result: CallToolResult) {
        let mut kept = self.kept.write().unwrap_or_else(PoisonError::into_inner);
        kept.insert(key, (Instant::now() + KEPT, result));
    }

    async fn get(&self, path: &str) -> Result<Value> {
        let request = self
            .http
            .get(format!("{}{path}", self.base))
            .header("Accept", "application/geo+json");
        Ok(request.send().await?.error_for_status()?.json().await?)
    }

    async fn alerts(&self, State { state }: &State) -> Result<(String, Value)> {
        let document = self.get(&format!("/alerts/active/area/{state}")).await?;
        let features = document["features"].as_array().context("no features")?;
        let (mut text, mut alerts) = (String::new(), Vec::new());
        for properties in features.iter().map(|feature| &feature["properties"]) {
            let field =
                |name: &str, otherwise: &str| properties[name].as_str().unwrap_or(otherwise).to_owned();
            let (event, area) = (field("event", "Unknown"), field("areaDesc", "Unknown"));
            let severity = field("severity", "Unknown");
            let description = field("description", "No description available");
            let instructions = field("instruction", "No specific instructions provided");
            let between = if text.is_empty() { "" } else { "\n---\n" };
            write!(
                text,
                "{between}Event: {event}\nArea: {area}\nSeverity: {severity}\nDescription: {description}\nInstructions: {instructions}"
            )?;
            alerts.push(json!({
                "event": event, "area": area, "severity": severity,
                "description": description, "instructions": instructions,
            }));
        }
        if alerts.is_empty() {
            text.push_str("No active alerts for this state.");
        }
        Ok((text, json!({"alerts": alerts, "asOf": now()?, "stale": false})))
    }

    async fn forecast(&self, place: &Place) -> Result<(String, Value)> {
        let Place { latitude, longitude } = place;
        let point = self.get(&format!("/points/{latitude},{longitude}")).await?;
        let grid = &point["properties"];
        let (office, x, y) = (&grid["gridId"], &grid["gridX"], &grid["gridY"]);
        let office = office.as_str().context("no grid")?;
        let document = self
            .get(&format!("/gridpoints/{office}/{x},{y}/forecast"))
            .await?;
        let shown = document["properties"]["periods"]
            .as_array()
            .context("no periods")?;
        let (mut text, mut periods) = (String::new(), Vec::new());
        for period in shown.iter().take(SHOWN_PERIODS) {
            let field = |name: &str| period[name].as_str().unwrap_or_default();
            let (name, unit) = (field("name"), field("temperatureUnit"));
            let (speed, direction) = (field("windSpeed"), field("windDirection"));
            let (temperature, forecast) = (&period["temperature"], field("detailedForecast"));
            let between = if text.is_empty() { "" } else { "\n---\n" };
            write!(
                text,
                "{between}{name}:\nTemperature: {temperature}°{unit}\nWind: {speed} {direction}\nForecast: {forecast}"
            )?;
            periods.push(json!({
                "name": name, "temperature": temperature, "temperature_unit": unit,
                "wind_speed": speed, "wind_direction": direction, "detailed_forecast": forecast,
            }));
        }
        let structured = json!({
            "latitude": latitude, "longitude": longitude, "periods": periods, "asOf": now()?, "stale": false,
        });
        Ok((text, structured))
    }
}
