//! The way to the collector: spans go in, OTLP over HTTP comes out, in batches from a thread of their own, through the same
//! HTTP client and TLS as everything else.

use super::{Settings, TracesError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use opentelemetry::KeyValue;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig as _, WithHttpConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{Sampler, SdkTracerProvider};
use percent_encoding::percent_decode_str;
use reqwest::Url;
use reqwest::redirect::Policy;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use tokio::runtime::Handle;

/// For one batch.
const EXPORT: Duration = Duration::from_secs(10);
/// A collector's answer is a count and a short text.
const LONGEST_ANSWER: usize = 64 << 10;

/// The collector's base URL, or none; traces go to `v1/traces` below it (OTLP exporter specification, Endpoint URLs).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint(Option<Url>);

impl FromStr for Endpoint {
    type Err = String;

    fn from_str(text: &str) -> Result<Endpoint, String> {
        if text.is_empty() {
            return Ok(Endpoint(None));
        }
        let refused = "must be an http or https URL without user name, query or fragment";
        let mut url = Url::parse(text).map_err(|_| refused.to_owned())?;
        let plain = url.username().is_empty() && url.password().is_none();
        let bare = url.query().is_none() && url.fragment().is_none();
        if !matches!(url.scheme(), "http" | "https") || !url.has_host() || !plain || !bare {
            return Err(refused.to_owned());
        }
        if !url.path().ends_with('/') {
            let path = format!("{}/", url.path());
            url.set_path(&path);
        }
        Ok(Endpoint(Some(url)))
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.0.as_ref().map_or("", Url::as_str))
    }
}

/// Headers for the collector: `name=value` pairs with commas between, values percent-encoded. They hold its key, so they are
/// shown by their names only.
#[derive(Clone, Default, PartialEq)]
pub struct Headers(HeaderMap);

impl FromStr for Headers {
    type Err = String;

    fn from_str(text: &str) -> Result<Headers, String> {
        let mut headers = HeaderMap::new();
        for pair in text.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            // The text may be a secret, so the message does not repeat it.
            let refused = || "must be name=value pairs with commas between".to_owned();
            let (name, value) = pair.split_once('=').ok_or_else(refused)?;
            let name = HeaderName::from_str(name.trim()).map_err(|_| refused())?;
            let value: Vec<u8> = percent_decode_str(value.trim()).collect();
            let mut value = HeaderValue::from_bytes(&value).map_err(|_| refused())?;
            value.set_sensitive(true);
            headers.insert(name, value);
        }
        Ok(Headers(headers))
    }
}

impl fmt::Display for Headers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.0.keys().map(|name| format!("{name}=***")).collect();
        out.write_str(&names.join(","))
    }
}

impl fmt::Debug for Headers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

/// A part, from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Share(f64);

impl FromStr for Share {
    type Err = String;

    fn from_str(text: &str) -> Result<Share, String> {
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.map(Share).ok_or_else(|| "must be from 0 to 1".to_owned())
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(out)
    }
}

/// A provider that exports to the collector if there is one, with requests running on `runtime`.
pub(super) fn provider(
    settings: &Settings<'_>,
    runtime: Handle,
) -> Result<Option<SdkTracerProvider>, TracesError> {
    let Some(endpoint) = &settings.endpoint.0 else {
        return Ok(None);
    };
    let mut http = reqwest::Client::builder();
    if endpoint.scheme() == "http" {
        // Nothing is redirected, so no certificate will ever be looked at; reading the roots takes time and memory.
        http = http.tls_certs_only([]);
    }
    let http = http
        .redirect(Policy::none())
        .timeout(EXPORT)
        .build()
        .map_err(TracesError::Client)?;
    let collector = Collector {
        http,
        headers: settings.headers.0.clone(),
        runtime,
    };
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(collector)
        .with_protocol(Protocol::HttpBinary)
        .with_endpoint(format!("{endpoint}v1/traces"))
        .with_timeout(EXPORT)
        .build()
        .map_err(TracesError::Exporter)?;
    let resource = Resource::builder()
        .with_service_name(settings.service.to_owned())
        .with_attribute(KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
        .build();
    let of_our_own = Sampler::TraceIdRatioBased(settings.share.0);
    let provider = SdkTracerProvider::builder()
        .with_batch_exporter(exporter)
        .with_resource(resource)
        .with_sampler(Sampler::ParentBased(Box::new(of_our_own)));
    Ok(Some(provider.build()))
}

/// Our HTTP client, for an exporter that runs on a thread without a runtime.
#[derive(Debug)]
struct Collector {
    http: reqwest::Client,
    headers: HeaderMap,
    runtime: Handle,
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, mut request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        request.headers_mut().extend(self.headers.clone());
        let request = reqwest::Request::try_from(request)?;
        let http = self.http.clone();
        self.runtime.spawn(exchange(http, request)).await?
    }
}

async fn exchange(http: reqwest::Client, request: reqwest::Request) -> Result<Response<Bytes>, HttpError> {
    let mut response = http.execute(request).await?;
    let (status, headers) = (response.status(), response.headers().clone());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > LONGEST_ANSWER {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    let mut answer = Response::new(body.freeze());
    *answer.status_mut() = status;
    *answer.headers_mut() = headers;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_is_a_plain_url() {
        for (text, url) in [
            ("", ""),
            ("http://collector:4318", "http://collector:4318/"),
            ("https://x.example/otlp", "https://x.example/otlp/"),
            ("https://x.example/otlp/", "https://x.example/otlp/"),
        ] {
            assert_eq!(text.parse::<Endpoint>().unwrap().to_string(), url);
        }
        for text in [
            "collector:4318",
            "grpc://x",
            "http://key@x",
            "http://:key@x",
            "http://x/?key=1",
        ] {
            let error = text.parse::<Endpoint>().unwrap_err();
            assert!(!error.contains("key"), "{error}");
        }
    }

    #[test]
    fn headers_are_decoded_and_never_shown() {
        let headers: Headers = "Authorization=Basic%20abc%3D, x-team = a ,".parse().unwrap();
        assert_eq!(headers.0["authorization"], "Basic abc=");
        assert_eq!(headers.0["x-team"], "a");
        for shown in [headers.to_string(), format!("{headers:?}")] {
            assert_eq!(shown, "authorization=***,x-team=***");
        }
        for text in ["s3cret", "a b=s3cret", "a=s3cret%0d%0a"] {
            let error = text.parse::<Headers>().unwrap_err();
            assert!(!error.contains("s3cret"), "{error}");
        }
    }

    #[test]
    fn a_share_is_a_part() {
        assert_eq!("0.25".parse(), Ok(Share(0.25)));
        for text in ["", "-0.1", "1.1", "NaN", "x"] {
            assert!(text.parse::<Share>().is_err(), "{text}");
        }
    }
}
