//! Configuration: environment and flags go in, settings come out, and are printed by `--check-config`.

use crate::audit::{CallerHeader, Target};
use crate::traces::{Endpoint, Headers, Share};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{CommandFactory as _, Parser};
use http::HeaderName;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::num::{ParseFloatError, ParseIntError};
use std::path::PathBuf;
use std::time::Duration;

/// A weather MCP server on the API of the US National Weather Service.
#[derive(Debug, Clone, Parser)]
#[command(name = "mcp-weather", version, about, args_override_self = true)]
pub struct Config {
    /// Port of /mcp, /sse, /messages, /health and /ready.
    #[arg(long, env = "PORT", default_value_t = 8000)]
    pub port: u16,
    /// Port of /metrics, in OpenMetrics, and of /health and /ready once more: no crowd on the public port keeps a probe from it.
    #[arg(long, env = "METRICS_PORT", default_value_t = 9090)]
    pub metrics_port: u16,
    /// Port on which replicas pass SSE messages to each other; never put it into a Service.
    #[arg(long, env = "PEER_PORT", default_value_t = 8001)]
    pub peer_port: u16,
    /// Address to listen on. Default: all in a pod (POD_IP or KUBERNETES_SERVICE_HOST is set), else 127.0.0.1.
    #[arg(long, env = "BIND_ADDRESS")]
    pub bind_address: Option<IpAddr>,
    /// The pod's own address (downward API); replicas find each other by it.
    #[arg(long, env = "POD_IP")]
    pub pod_ip: Option<IpAddr>,
    /// File with the key that replicas share, at least 32 bytes; a sibling file `previous` is accepted too, and both are read again when they change. Without it, SSE needs a single replica.
    #[arg(long, env = "REPLICA_KEY_FILE")]
    pub replica_key_file: Option<PathBuf>,
    /// Base URL of the National Weather Service API.
    #[arg(long, env = "NWS_BASE_URL", default_value = "https://api.weather.gov")]
    pub nws_base_url: String,
    /// User-Agent for the API, which asks for a contact in it.
    #[arg(long, env = "NWS_USER_AGENT", default_value = concat!("mcp-weather/", env!("CARGO_PKG_VERSION"), " (mcp-fleet)"))]
    pub nws_user_agent: String,
    /// Requests a minute that this replica may send to the API, so many at once; over it, a stale answer or an error that says when to try again. 0 is no limit.
    #[arg(long, env = "NWS_REQUESTS_PER_MINUTE", default_value_t = 600)]
    pub nws_requests_per_minute: u32,
    /// Host names to serve beside localhost and any IP address, comma-separated; with a port when only that one is meant.
    #[arg(long, env = "ALLOWED_HOSTS", value_delimiter = ',', value_parser = host)]
    pub allowed_hosts: Vec<String>,
    /// Origins of web pages that may call, comma-separated; beside them only the server's own, and that on a loopback address. Preflights are answered and answers marked for them (CORS).
    #[arg(
        long,
        env = "ALLOWED_ORIGINS",
        value_delimiter = ',',
        value_parser = origin,
        hide_default_value = true
    )]
    pub allowed_origins: Vec<String>,
    /// File with a secret of at least 16 bytes that the gateway sends along; without it in the request, /mcp, /sse and /messages are 401. A sibling file `previous` is accepted too, and both are read again when they change.
    #[arg(long, env = "GATEWAY_SECRET_FILE")]
    pub gateway_secret_file: Option<PathBuf>,
    /// Header in which the gateway sends its secret.
    #[arg(long, env = "GATEWAY_SECRET_HEADER", default_value = "X-Gateway-Secret")]
    pub gateway_secret_header: HeaderName,
    /// Path put before the endpoint reference of SSE streams, for clients that cannot resolve a relative one.
    #[arg(long, env = "SSE_ENDPOINT_PREFIX", default_value = "", value_parser = endpoint_prefix)]
    pub sse_endpoint_prefix: String,
    /// Open SSE streams and subscriptions at most; one more is answered 503.
    #[arg(long, env = "MAX_STREAMS", default_value_t = 5000)]
    pub max_streams: usize,
    /// Open connections of the public port at most, beside its streams; further ones wait until one is closed. 5,200 and 5,000 streams fit into 128 MiB. The limit of open files is raised as far as it may be, with a warning if that is not enough.
    #[arg(long, env = "MAX_CONNECTIONS", default_value_t = 5_200, value_parser = at_least_one)]
    pub max_connections: usize,
    /// Calls a minute of one tool that this replica takes, so many at once; further ones are answered 429. The default stops what runs wild and no more, since an answer from memory costs some 13 microseconds; set what your callers need. 0 is no limit.
    #[arg(long, env = "TOOL_CALLS_PER_MINUTE", default_value_t = 6_000_000)]
    pub tool_calls_per_minute: u32,
    /// Longest request body in bytes; a longer one is answered 413.
    #[arg(long, env = "MAX_BODY_BYTES", default_value_t = 262_144, value_parser = at_least_one)]
    pub max_body_bytes: usize,
    /// Seconds between keep-alive comments on a stream.
    #[arg(long, env = "KEEP_ALIVE_SECONDS", default_value = "15", value_parser = seconds)]
    pub keep_alive: Duration,
    /// Seconds for the headers of a request, and for which an idle connection is kept.
    #[arg(long, env = "HEADER_SECONDS", default_value = "10", value_parser = some_seconds)]
    pub header_time: Duration,
    /// Seconds for the body of a request.
    #[arg(long, env = "BODY_SECONDS", default_value = "10", value_parser = some_seconds)]
    pub body_time: Duration,
    /// Seconds for which a client may leave what it was sent unread, before its connection is closed.
    #[arg(long, env = "WRITE_SECONDS", default_value = "30", value_parser = some_seconds)]
    pub write_time: Duration,
    /// Seconds that connections are still taken after SIGTERM, while load balancers learn of it; half of GRACE_SECONDS at most.
    #[arg(long, env = "DRAIN_DELAY_SECONDS", default_value = "3", value_parser = seconds)]
    pub drain_delay: Duration,
    /// Seconds from SIGTERM to the end of the last request at most; what is left of traces and audit may take 3 seconds more. Keep both below the pod's termination grace period.
    #[arg(long, env = "GRACE_SECONDS", default_value = "20", value_parser = seconds)]
    pub grace: Duration,
    /// Seconds without any answer of the API after which /ready says no; 0 is never. All replicas lose the API at once, so this takes the whole server out, stale answers included.
    #[arg(long, env = "READY_UPSTREAM_SECONDS", default_value = "0", value_parser = seconds)]
    pub ready_upstream: Duration,
    /// Where the audit of tool calls goes, a JSON object a line: off, stdout, stderr, or a path with a slash in it.
    #[arg(long, env = "AUDIT_LOG", default_value = "stdout", value_parser = Target::parse)]
    pub audit_log: Target,
    /// Header in which the gateway asserts who calls, for the audit; the gateway must overwrite it. Empty: nobody is asked.
    #[arg(long, env = "AUDIT_CALLER_HEADER", default_value = "x-mcp-caller")]
    pub audit_caller_header: CallerHeader,
    /// Base URL of a collector that takes OTLP over HTTP (port 4318 as a rule); traces go to v1/traces below it. Without it nothing is traced.
    #[arg(long, env = "OTEL_EXPORTER_OTLP_ENDPOINT", default_value = "")]
    pub otlp_endpoint: Endpoint,
    /// Headers for the collector, such as its key: name=value pairs with commas between, values percent-encoded. Better a variable than a flag, which others can see.
    #[arg(
        long,
        env = "OTEL_EXPORTER_OTLP_HEADERS",
        default_value = "",
        hide_env_values = true
    )]
    pub otlp_headers: Headers,
    /// Name of the service in traces.
    #[arg(long, env = "OTEL_SERVICE_NAME", default_value = "mcp-weather")]
    pub otel_service_name: String,
    /// Share of the traces that begin here to keep, from 0 to 1; in a trace of a caller, the caller decides.
    #[arg(long, env = "OTEL_TRACES_SAMPLER_ARG", default_value = "1")]
    pub otel_share: Share,
    /// Form of the log: json or text.
    #[arg(long, env = "LOG_FORMAT", default_value = "json")]
    pub log_format: LogFormat,
    /// What is logged: a level, or directives of tracing's EnvFilter.
    #[arg(long, env = "RUST_LOG", default_value = "info")]
    pub log_filter: String,
    /// Print the effective configuration and end.
    #[arg(long)]
    pub check_config: bool,
    /// Ask the server that runs with the same settings whether it is ready, and end with 0 if so: for images without a shell.
    #[arg(long)]
    pub health_check: bool,
}

/// Form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Settings whose value may be or hold a secret, so that an error about one must not repeat it.
const SECRET_FLAGS: [&str; 2] = ["--otlp-headers", "--otlp-endpoint"];

fn without_secret(mut error: clap::Error) -> clap::Error {
    let about = error.get(ContextKind::InvalidArg).map(ToString::to_string);
    if about.is_some_and(|about| SECRET_FLAGS.iter().any(|flag| about.starts_with(flag))) {
        error.insert(ContextKind::InvalidValue, ContextValue::String("***".to_owned()));
    }
    error
}

impl Config {
    /// From the flags and the environment of this process. The error is for the person who started it.
    pub fn read() -> Result<Config, clap::Error> {
        Config::try_parse()
            .map_err(without_secret)
            .and_then(Config::with_ports_apart)
    }

    /// Two listeners on one port would fail later, and look as if another process had it. With 0 the system chooses.
    fn with_ports_apart(self) -> Result<Config, clap::Error> {
        let mut taken = vec![("PORT", self.port), ("METRICS_PORT", self.metrics_port)];
        if self.replica_key_file.is_some() {
            taken.push(("PEER_PORT", self.peer_port));
        }
        for (at, (name, port)) in taken.iter().enumerate() {
            let twice = taken[..at].iter().find(|(_, other)| other == port && *port != 0);
            if let Some((other, _)) = twice {
                let text = format!("{other} and {name} are both {port}: give each a port of its own\n");
                return Err(Config::command().error(ErrorKind::ValueValidation, text));
            }
        }
        Ok(self)
    }

    /// The address to listen on. MCP wants a server on someone's own machine to be reachable from there only.
    pub fn listen_address(&self, in_cluster: bool) -> IpAddr {
        match (self.bind_address, self.pod_ip) {
            (Some(address), _) => address,
            (None, Some(IpAddr::V6(_))) => Ipv6Addr::UNSPECIFIED.into(),
            (None, Some(IpAddr::V4(_))) => Ipv4Addr::UNSPECIFIED.into(),
            (None, None) if in_cluster => Ipv4Addr::UNSPECIFIED.into(),
            (None, None) => Ipv4Addr::LOCALHOST.into(),
        }
    }

    /// The effective configuration, a variable a line. Secrets are masked, or only named by their files.
    pub fn describe(&self, in_cluster: bool) -> String {
        let text = |value: &dyn std::fmt::Display| value.to_string();
        let or_none = |value: Option<String>| value.unwrap_or_default();
        let path = |value: Option<&PathBuf>| or_none(value.map(|file| file.display().to_string()));
        let secs = |value: Duration| value.as_secs_f64().to_string();
        let format = match self.log_format {
            LogFormat::Json => "json",
            LogFormat::Text => "text",
        };
        let lines = [
            ("ALLOWED_HOSTS", self.allowed_hosts.join(",")),
            ("ALLOWED_ORIGINS", self.allowed_origins.join(",")),
            ("AUDIT_CALLER_HEADER", text(&self.audit_caller_header)),
            ("AUDIT_LOG", text(&self.audit_log)),
            ("BIND_ADDRESS", text(&self.listen_address(in_cluster))),
            ("BODY_SECONDS", secs(self.body_time)),
            ("DRAIN_DELAY_SECONDS", secs(self.drain_delay)),
            ("GATEWAY_SECRET_FILE", path(self.gateway_secret_file.as_ref())),
            ("GATEWAY_SECRET_HEADER", text(&self.gateway_secret_header)),
            ("GRACE_SECONDS", secs(self.grace)),
            ("HEADER_SECONDS", secs(self.header_time)),
            ("KEEP_ALIVE_SECONDS", secs(self.keep_alive)),
            ("LOG_FORMAT", format.to_owned()),
            ("MAX_BODY_BYTES", text(&self.max_body_bytes)),
            ("MAX_CONNECTIONS", text(&self.max_connections)),
            ("MAX_STREAMS", text(&self.max_streams)),
            ("METRICS_PORT", text(&self.metrics_port)),
            ("NWS_BASE_URL", self.nws_base_url.clone()),
            ("NWS_REQUESTS_PER_MINUTE", text(&self.nws_requests_per_minute)),
            ("NWS_USER_AGENT", self.nws_user_agent.clone()),
            ("OTEL_EXPORTER_OTLP_ENDPOINT", text(&self.otlp_endpoint)),
            ("OTEL_EXPORTER_OTLP_HEADERS", text(&self.otlp_headers)),
            ("OTEL_SERVICE_NAME", self.otel_service_name.clone()),
            ("OTEL_TRACES_SAMPLER_ARG", text(&self.otel_share)),
            ("PEER_PORT", text(&self.peer_port)),
            ("POD_IP", or_none(self.pod_ip.map(|address| address.to_string()))),
            ("PORT", text(&self.port)),
            ("READY_UPSTREAM_SECONDS", secs(self.ready_upstream)),
            ("REPLICA_KEY_FILE", path(self.replica_key_file.as_ref())),
            ("RUST_LOG", self.log_filter.clone()),
            ("SSE_ENDPOINT_PREFIX", self.sse_endpoint_prefix.clone()),
            ("TOOL_CALLS_PER_MINUTE", text(&self.tool_calls_per_minute)),
            ("WRITE_SECONDS", secs(self.write_time)),
        ];
        lines.map(|(name, value)| format!("{name}={value}\n")).concat()
    }
}

/// As in the Host header.
fn host(text: &str) -> Result<String, String> {
    if text.trim().trim_end_matches('/').contains('/') {
        return Err("must be a host name without scheme and path, such as weather.example".to_owned());
    }
    Ok(text.to_owned())
}

/// As browsers send it.
fn origin(text: &str) -> Result<String, String> {
    let rest = text.trim().trim_end_matches('/').split_once("://");
    if text.trim().is_empty() || rest.is_some_and(|(_, host)| !host.is_empty() && !host.contains('/')) {
        return Ok(text.to_owned());
    }
    Err("must be a scheme and a host, such as https://app.example".to_owned())
}

fn at_least_one(text: &str) -> Result<usize, String> {
    let number: usize = text.parse().map_err(|error: ParseIntError| error.to_string())?;
    if number == 0 {
        return Err("must be at least 1".to_owned());
    }
    Ok(number)
}

fn seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|error: ParseFloatError| error.to_string())?;
    Duration::try_from_secs_f64(number)
        .ok()
        .filter(|time| *time <= Duration::from_hours(24))
        .ok_or_else(|| "must be from 0 to 86400 seconds".to_owned())
}

/// Not none at all: the server could not serve anybody.
fn some_seconds(text: &str) -> Result<Duration, String> {
    seconds(text).and_then(|time| {
        if time < Duration::from_millis(1) {
            return Err("must be above 0 seconds".to_owned());
        }
        Ok(time)
    })
}

/// A path (or a whole URL), ending in a slash unless empty. It goes into an event, so it must be one line.
fn endpoint_prefix(text: &str) -> Result<String, String> {
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("must be a path without spaces".to_owned());
    }
    let slash = if text.is_empty() || text.ends_with('/') {
        ""
    } else {
        "/"
    };
    Ok(format!("{text}{slash}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Config, clap::Error> {
        Config::try_parse_from([&["mcp-weather"], flags].concat())
    }

    #[test]
    fn listens_to_everyone_only_in_a_pod() {
        assert_eq!(parse(&[]).unwrap().listen_address(false).to_string(), "127.0.0.1");
        assert_eq!(parse(&[]).unwrap().listen_address(true).to_string(), "0.0.0.0");
        assert_eq!(
            parse(&["--pod-ip=10.0.0.1"])
                .unwrap()
                .listen_address(false)
                .to_string(),
            "0.0.0.0"
        );
        assert_eq!(
            parse(&["--pod-ip=fd00::1"])
                .unwrap()
                .listen_address(true)
                .to_string(),
            "::"
        );
        assert_eq!(
            parse(&["--bind-address=127.0.0.2"])
                .unwrap()
                .listen_address(true)
                .to_string(),
            "127.0.0.2"
        );
    }

    #[test]
    fn describes_every_setting_once() {
        let described = parse(&["--allowed-hosts=a,b", "--sse-endpoint-prefix=/x"])
            .unwrap()
            .describe(false);
        assert!(
            described.contains("ALLOWED_HOSTS=a,b\n") && described.contains("SSE_ENDPOINT_PREFIX=/x/\n"),
            "{described}"
        );
        let command = <Config as clap::CommandFactory>::command();
        for name in command.get_arguments().filter_map(|argument| argument.get_env()) {
            let line = format!("{}=", name.to_string_lossy());
            assert_eq!(
                described
                    .lines()
                    .filter(|described| described.starts_with(&line))
                    .count(),
                1,
                "{line}"
            );
        }
    }

    #[test]
    fn describes_no_secret() {
        let described = parse(&["--otlp-headers=api-key=s3cret,x-team=s3cret"])
            .unwrap()
            .describe(false);
        assert!(
            described.contains("OTEL_EXPORTER_OTLP_HEADERS=api-key=***,x-team=***\n")
                && !described.contains("s3cret"),
            "{described}"
        );
    }

    #[test]
    fn an_error_repeats_no_secret() {
        for flag in [
            "--otlp-headers=Authorization:Bearer s3cret",
            "--otlp-endpoint=http://user:s3cret@collector",
        ] {
            let error = without_secret(parse(&[flag]).unwrap_err()).to_string();
            assert!(error.contains("--otlp-") && !error.contains("s3cret"), "{error}");
        }
        let error = without_secret(parse(&["--port=70000"]).unwrap_err()).to_string();
        assert!(error.contains("70000"), "{error}");
    }

    #[test]
    fn refuses_what_it_cannot_mean() {
        for flag in [
            "--port=x",
            "--port=70000",
            "--pod-ip=",
            "--grace=-1",
            "--grace=NaN",
            "--keep-alive=1e9",
            "--sse-endpoint-prefix=a b",
            "--log-format=xml",
            "--max-connections=0",
            "--max-body-bytes=0",
            "--header-time=0",
            "--body-time=0",
            "--write-time=0",
            "--tool-calls-per-minute=-1",
            "--gateway-secret-header=a b",
            "--audit-log=stdot",
            "--otlp-endpoint=collector:4318",
            "--otlp-headers=key",
            "--otel-share=2",
            "--audit-caller-header=Authorization",
            "--allowed-hosts=a,https://weather.example",
            "--allowed-origins=https://a.example,app.example",
            "--allowed-origins=https://app.example/page",
        ] {
            assert!(parse(&[flag]).is_err(), "{flag}");
        }
        for flag in [
            "--allowed-hosts=",
            "--allowed-hosts=weather.example:8443, other.example",
            "--allowed-origins=",
            "--allowed-origins=https://app.example/, vscode-webview://id",
        ] {
            assert!(parse(&[flag]).is_ok(), "{flag}");
        }
    }

    #[test]
    fn each_port_is_its_own() {
        let check = |flags: &[&str]| parse(flags).unwrap().with_ports_apart();
        let error = check(&["--port=9090"]).unwrap_err().to_string();
        assert!(error.contains("PORT and METRICS_PORT are both 9090"), "{error}");
        assert!(
            check(&["--port=8001"]).is_ok(),
            "no other replica is listened for"
        );
        let error = check(&["--port=8001", "--replica-key-file=key"]).unwrap_err();
        assert!(
            error.to_string().contains("PORT and PEER_PORT are both 8001"),
            "{error}"
        );
        assert!(check(&["--port=0", "--metrics-port=0"]).is_ok());
    }
}
