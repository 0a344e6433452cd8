//! HTTP with server-sent events (2024-11-05). In: an exchange and the stream's path; out: a report. The stream's first
//! event says where messages go; a client resolves it against the stream's address, so behind a gateway it must stay
//! inside the API's path. Answers come on the stream, which is closed when the conversation is over.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::Value;
use url::Url;

use super::answer;
use super::conversation::{self, Conversation};
use super::error::{Call, ProbeError, mask};
use super::exchange::{Body, Exchange, Request, shown};
use super::framing::{Decoder, Event};
use super::message::{self, Response};
use super::{Report, Role};

pub(super) async fn probe(exchange: Exchange<'_>, path: &str) -> Result<Report, ProbeError> {
    const INITIALIZE: &str = "initialize";
    let mut client = open(exchange, path).await?;
    let answer = conversation::result(&mut client, INITIALIZE, message::initialize()).await?;
    let mut greeting = message::greeting(answer.get());
    drop(answer);
    let Some(version) = greeting.version.take() else {
        let found = "a result without protocolVersion".to_owned();
        return Err(ProbeError::NotMcp {
            call: client.call(INITIALIZE),
            found,
        });
    };
    let initialized = "notifications/initialized";
    post(
        exchange,
        &client.endpoint,
        initialized,
        message::notification(initialized),
    )
    .await?;
    let tools = conversation::list_tools(&mut client, &greeting, exchange.limits).await?;
    if exchange.target.replicas > 1 && exchange.target.role == Role::Server {
        conversation::keep_asking(&mut client, exchange.limits.session_tries).await?;
    }
    Ok(Report::of(greeting, vec![version], &tools))
}

/// Opens the stream and waits for the endpoint event.
async fn open<'a>(exchange: Exchange<'a>, path: &str) -> Result<Client<'a>, ProbeError> {
    let url = exchange.url(path);
    let headers = HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static("text/event-stream"))]);
    let request = Request {
        step: "event stream",
        method: Method::GET,
        url: url.clone(),
        headers,
        body: None,
    };
    let mut reply = exchange.send(request).await?;
    if !reply.status.is_success() {
        let text = reply.body.text().await?;
        return Err(answer::refusal(&reply, &text, exchange.target.role));
    }
    if reply.content_type() != "text/event-stream" {
        return Err(ProbeError::NotMcp {
            call: reply.call.clone(),
            found: reply.found(),
        });
    }
    let call = Call {
        step: "endpoint event",
        ..reply.call
    };
    let mut stream = Stream {
        body: reply.body,
        decoder: Decoder::new(exchange.limits.bytes),
    };
    let event = stream
        .find(&call, |event| (event.name == "endpoint").then_some(event.data))
        .await?;
    let endpoint = resolve(&url, &exchange.target.base, event.trim())?;
    Ok(Client {
        exchange,
        endpoint,
        stream,
        next_id: 1,
    })
}

/// Resolves as clients do (Python `urljoin`, TypeScript `new URL`), and checks what they check, and that the gateway
/// would route the result to the same server.
fn resolve(stream: &Url, base: &Url, reference: &str) -> Result<Url, ProbeError> {
    let inside = format!("{}/", base.path().trim_end_matches('/'));
    let resolved = stream.join(reference);
    match resolved {
        Ok(url) if url.origin() == stream.origin() && url.path().starts_with(&inside) => Ok(url),
        outside => Err(ProbeError::SseEndpointOutsidePath {
            stream: shown(stream),
            endpoint: match outside {
                Ok(url) if url.origin() == stream.origin() => mask(url.path()),
                Ok(url) => shown(&url),
                Err(_) => "an address that cannot be read".to_owned(),
            },
            inside: if inside == "/" {
                "the server's origin".to_owned()
            } else {
                inside
            },
        }),
    }
}

struct Client<'a> {
    exchange: Exchange<'a>,
    endpoint: Url,
    stream: Stream,
    next_id: u64,
}

impl Conversation for Client<'_> {
    async fn respond(&mut self, method: &'static str, params: Value) -> Result<Response, ProbeError> {
        let id = self.next_id;
        self.next_id += 1;
        let call = self.call(method);
        let Self {
            exchange,
            endpoint,
            stream,
            next_id: _,
        } = self;
        // Read while posting: a server may answer the POST only when its event has been taken.
        let read = stream.find(&call, |event| message::response(event.data, id).ok());
        let ((), response) = futures::future::try_join(
            post(*exchange, endpoint, method, message::request(id, method, &params)),
            read,
        )
        .await?;
        Ok(response)
    }

    fn call(&self, method: &'static str) -> Call {
        Call {
            verb: "POST",
            address: shown(&self.endpoint),
            step: method,
        }
    }
}

async fn post(
    exchange: Exchange<'_>,
    endpoint: &Url,
    step: &'static str,
    body: Value,
) -> Result<(), ProbeError> {
    let headers = HeaderMap::from_iter([(
        header::ACCEPT,
        HeaderValue::from_static("application/json, text/event-stream"),
    )]);
    let request = Request {
        step,
        method: Method::POST,
        url: endpoint.clone(),
        headers,
        body: Some(body),
    };
    let reply = exchange.send(request).await?;
    let (status, call, replicas) = (reply.status, reply.call.clone(), exchange.target.replicas);
    match answer::accepted(reply, exchange.target.role).await {
        Err(ProbeError::NotFound { call, .. }) => {
            let hint =
                "; the endpoint event led there, so transports.sse.messagesPath must cover it".to_owned();
            Err(ProbeError::NotFound { call, hint })
        }
        Err(_) if replicas > 1 && matches!(status, StatusCode::BAD_REQUEST | StatusCode::NOT_FOUND) => {
            Err(ProbeError::SessionsNotShared {
                call,
                status: status.as_u16(),
                replicas,
            })
        }
        other => other,
    }
}

struct Stream {
    body: Body,
    decoder: Decoder,
}

impl Stream {
    /// Reads on until `pick` takes an event; what it leaves is dropped, as the probe waits for one thing at a time.
    async fn find<T>(
        &mut self,
        call: &Call,
        pick: impl Fn(Event) -> Option<T> + Send,
    ) -> Result<T, ProbeError> {
        self.body.restart(call, self.decoder.held());
        loop {
            while let Some(event) = self.decoder.next() {
                if let Some(found) = pick(event) {
                    return Ok(found);
                }
            }
            let Some(bytes) = self.body.chunk().await? else {
                let found = "an event stream that ended too early".to_owned();
                let call = call.clone();
                return Err(ProbeError::NotMcp { call, found });
            };
            self.decoder.feed(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_must_stay_inside_the_path() {
        let cases = [
            (
                "https://gw.example/demo/tools/weather",
                "messages/1?session_id=1",
                Ok("/demo/tools/weather/messages/1"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "/demo/tools/weather/messages/1",
                Ok("/demo/tools/weather/messages/1"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "https://gw.example/demo/tools/weather/m",
                Ok("/demo/tools/weather/m"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "/messages/1",
                Err("/messages/1"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "/demo/tools/weather2/m",
                Err("/demo/tools/weather2/m"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "../other/m",
                Err("/demo/tools/other/m"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "%2e%2e/other/m",
                Err("/demo/tools/other/m"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "http://gw.example/demo/tools/weather/m",
                Err("http://gw.example/demo/tools/weather/m"),
            ),
            (
                "https://gw.example/demo/tools/weather",
                "//evil.example/demo/tools/weather/m",
                Err("https://evil.example/demo/tools/weather/m"),
            ),
            ("http://weather.tools.svc:80", "/messages/1", Ok("/messages/1")),
            ("http://weather.tools.svc:80", "messages/1", Ok("/messages/1")),
        ];
        for (base, reference, expected) in cases {
            let base = Url::parse(base).unwrap();
            let mut stream = base.clone();
            stream.set_path(&format!("{}/sse", base.path().trim_end_matches('/')));
            match (resolve(&stream, &base, reference), expected) {
                (Ok(url), Ok(path)) => assert_eq!(url.path(), path, "{reference}"),
                (Err(ProbeError::SseEndpointOutsidePath { endpoint, .. }), Err(shown)) => {
                    assert_eq!(endpoint, shown);
                }
                (found, _) => panic!("{reference}: {found:?}"),
            }
        }
    }
}
