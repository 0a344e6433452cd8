//! One server: everything that its handlers share, and the running of a tool call.

use crate::audit::{Audit, AuditError, Ending, Origin};
use crate::config::Config;
use crate::http::bodies::{self, Bodies};
use crate::http::gateway_secret::{GatewaySecret, SecretError};
use crate::http::guard::Guard;
use crate::http::refusal::TooManyCalls;
use crate::limit::Bucket;
use crate::metrics::{Metrics, Outcome};
use crate::nws::client::{Nws, SetupError};
use crate::nws::reach::Reach;
use crate::protocol::answer::{self, Code};
use crate::protocol::dispatch::{Dispatch, Reply};
use crate::replica::Replica;
use crate::replica::keys::KeyError;
use crate::replica::peer::Nonces;
use crate::resources;
use crate::sse::streams::Streams;
use crate::tools::{Call, Tool, Work, render};
use crate::traces::{RequestSpan, Settings, Traces, TracesError};
use crate::weather::Weather;
use http::{HeaderMap, HeaderName};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// A server without its sockets.
#[derive(Debug)]
pub struct App {
    /// Bounds on what a client may do.
    pub limits: Limits,
    /// Who may ask.
    pub guard: Guard,
    /// Answers that need nobody.
    pub dispatch: Dispatch,
    /// Answers that do.
    pub weather: Weather,
    /// Whether the weather service can be reached, as far as readiness depends on it.
    pub reach: Reach,
    /// The open SSE streams.
    pub streams: Arc<Streams>,
    /// This process among its replicas.
    pub replica: Replica,
    /// Messages of other replicas that were delivered already.
    pub nonces: Nonces,
    /// Who called what.
    pub audit: Audit,
    /// The way of a request, for whoever looks at the whole of it.
    pub traces: Traces,
    /// What is measured.
    pub metrics: Arc<Metrics>,
    /// How often each tool may be called, in the order of `Tool::ALL`.
    tool_limits: [Option<Bucket>; Tool::ALL.len()],
    draining: AtomicBool,
}

/// Bounds on what a client may do.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Longest body.
    pub body_bytes: usize,
    /// All bodies together.
    pub bodies: Bodies,
    /// Time for a body.
    pub body_time: Duration,
    /// For which a client may leave bytes unread.
    pub write_time: Duration,
    /// Open connections of the public port that are no streams.
    pub connections: usize,
    /// Between comments on a quiet stream.
    pub keep_alive: Duration,
    /// Before the endpoint reference; empty or ending in a slash.
    pub endpoint_prefix: String,
}

/// Why there is no server.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The weather service's settings.
    #[error(transparent)]
    Nws(#[from] SetupError),
    /// The key of the replicas.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// The secret of the gateway.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// The audit would write down the gateway's secret.
    #[error(
        "AUDIT_CALLER_HEADER and GATEWAY_SECRET_HEADER both name {0}: the audit must not hold the secret; name another header for who calls"
    )]
    SecretInAudit(HeaderName),
    /// The audit's file.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The way to the collector of traces.
    #[error(transparent)]
    Traces(#[from] TracesError),
}

impl App {
    /// Build a server as configured.
    pub fn build(config: &Config) -> Result<App, BuildError> {
        let metrics = Arc::new(Metrics::register());
        let nws = Nws::connect(
            &config.nws_base_url,
            &config.nws_user_agent,
            config.nws_requests_per_minute,
            Arc::clone(&metrics),
        )?;
        if config.audit_caller_header.is(&config.gateway_secret_header) {
            return Err(BuildError::SecretInAudit(config.gateway_secret_header.clone()));
        }
        let secret = match &config.gateway_secret_file {
            Some(file) => Some(GatewaySecret::from_file(
                file,
                config.gateway_secret_header.clone(),
            )?),
            None => None,
        };
        let traces = Traces::open(&Settings {
            endpoint: &config.otlp_endpoint,
            headers: &config.otlp_headers,
            service: &config.otel_service_name,
            share: config.otel_share,
        })?;
        let started = Instant::now();
        Ok(App {
            tool_limits: Tool::ALL.map(|_| Bucket::per_minute(config.tool_calls_per_minute, started)),
            limits: Limits {
                body_bytes: config.max_body_bytes,
                // Or the longest body could never be read.
                bodies: Bodies::with_room(bodies::ROOM.max(config.max_body_bytes)),
                body_time: config.body_time,
                write_time: config.write_time,
                connections: config.max_connections,
                keep_alive: config.keep_alive.max(Duration::from_millis(10)),
                endpoint_prefix: config.sse_endpoint_prefix.clone(),
            },
            guard: Guard::allow(&config.allowed_hosts, &config.allowed_origins).with_secret(secret),
            dispatch: Dispatch::build(),
            reach: Reach::with_limit(nws.clone(), config.ready_upstream),
            weather: Weather::from_nws(nws, Arc::clone(&metrics)),
            streams: Arc::new(Streams::with_cap(config.max_streams, Arc::clone(&metrics))),
            replica: Replica::join(
                config.pod_ip,
                config.replica_key_file.as_deref(),
                config.peer_port,
            )?,
            nonces: Nonces::default(),
            audit: Audit::open(&config.audit_log, config.audit_caller_header.clone(), &metrics)?,
            traces,
            metrics,
            draining: AtomicBool::new(false),
        })
    }

    /// Who calls, as far as the headers tell, and on which session. Nothing is looked at when nobody would write it down.
    pub fn origin(&self, headers: &HeaderMap, session: Option<&str>) -> Origin {
        if self.audit.is_on() || self.traces.are_on() {
            self.audit.origin(headers, session, self.guard.secret())
        } else {
            Origin::default()
        }
    }

    /// Whether the call may be run now, which uses up one call of its tool.
    pub fn admit(&self, call: &Call, origin: Origin) -> Result<(), TooManyCalls> {
        let tool = call.work.tool();
        let Some(Some(bucket)) = self.tool_limits.get(tool as usize) else {
            return Ok(());
        };
        bucket.take(Instant::now()).map_err(|wait| {
            self.metrics.call_limited(tool, call.era);
            self.audit
                .limited(origin, call.era, &call.work, "calls_of_a_tool");
            TooManyCalls::of(tool, &call.id, wait)
        })
    }

    /// Run a tool call, or a resources/read, to its answer, and leave a record of who wanted it.
    pub async fn run(&self, call: Call, origin: Origin, span: &mut RequestSpan) -> Reply {
        let Call { id, era, work } = call;
        let started = Instant::now();
        let running = self.metrics.call_started(work.tool(), era, started);
        let entry = self.audit.begin(origin, era, &work, started);
        let result = match work {
            Work::Alerts(state) => Ok(self.weather.alerts(state).await),
            Work::Forecast(point) => Ok(self.weather.forecast(point).await),
            Work::ReadAlerts(state, uri) => {
                let alerts = self.weather.alerts(state).await;
                resources::contents(&uri, era, &alerts)
                    .map_err(|text| (Outcome::ToolError, Code::Internal, text))
            }
            Work::BadArguments(_, text) => Ok(render::failure(&text)),
            Work::UnknownTool(name) => Err((
                Outcome::Refused,
                Code::InvalidParams,
                format!("Unknown tool: {name}"),
            )),
        };
        let (outcome, reply) = match result {
            Ok(rendered) => {
                let outcome = if rendered.is_error {
                    Outcome::ToolError
                } else {
                    Outcome::Ok
                };
                (
                    outcome,
                    Reply {
                        body: answer::result(&id, era, &rendered.members),
                        error: None,
                    },
                )
            }
            Err((outcome, code, message)) => {
                let body = answer::error(Some(&id), code, &message, None);
                (
                    outcome,
                    Reply {
                        body,
                        error: Some(code),
                    },
                )
            }
        };
        running.end(outcome);
        entry.finish(Ending::Answered(outcome));
        if outcome == Outcome::ToolError {
            span.tool_error();
        }
        reply
    }

    /// Whether the server has been asked to stop.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Readiness off, for good.
    pub fn begin_draining(&self) {
        self.draining.store(true, Ordering::Release);
    }
}
