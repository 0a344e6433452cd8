//! Logs. In: format and filter; out: the process's subscriber.

use tracing_subscriber::{EnvFilter, fmt, layer::SubscriberExt as _, util::SubscriberInitExt as _};

use crate::args::LogFormat;

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    #[error("failed to read the log filter {filter:?}: {source}")]
    Filter {
        filter: String,
        source: tracing_subscriber::filter::ParseError,
    },
    #[error("failed to install the log subscriber: {source}")]
    Install {
        source: tracing_subscriber::util::TryInitError,
    },
}

/// Installs the subscriber of the process.
pub fn install(format: LogFormat, filter: &str) -> Result<(), TelemetryError> {
    let parsed = EnvFilter::try_new(filter).map_err(|source| TelemetryError::Filter {
        filter: filter.to_owned(),
        source,
    })?;
    let registry = tracing_subscriber::registry().with(parsed);
    let installed = match format {
        LogFormat::Json => registry
            .with(fmt::layer().json().flatten_event(true).with_current_span(false))
            .try_init(),
        LogFormat::Text => registry.with(fmt::layer()).try_init(),
    };
    installed.map_err(|source| TelemetryError::Install { source })
}

/// The span of one pass: every log line of the pass carries its fields. The trace id has 32 hexadecimal digits, as
/// W3C Trace Context wants them, from 16 random bytes. The object's name is `object`: in JSON, `name` is the span's.
pub fn pass_span<K: kube::Resource>(kind: &'static str, object: &K, random: [u8; 16]) -> tracing::Span {
    tracing::info_span!(
        "pass",
        kind,
        namespace = object.meta().namespace,
        object = object.meta().name,
        trace_id = hex::encode(random)
    )
}
