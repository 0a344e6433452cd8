//! HTTP with server-sent events (2024-11-05). In: an exchange and the stream's path; out: a report. The stream's first
//! event says where messages go; a client resolves it against the stream's address, so behind a gateway it must stay
//! inside the API's path. Answers come on the stream, which is closed when the conversation is over.

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use percent_encoding::percent_decode_str;
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
        return Err(answer::refusal(&reply, &text, exchange.target));
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

/// Bytes of a reference; sessions have room in less.
const REFERENCE: usize = 2 * 1024;

/// Resolves as clients do (Python `urljoin`, TypeScript `new URL`), and checks what they check, and that the gateway
/// would route the result to the same server. Wherever a server wants to lead the probe, it goes nowhere else: not to
/// another host, port or scheme, not with a name and password of the server's choice, and not out of the path by
/// segments that somebody on the way may decode.
fn resolve(stream: &Url, base: &Url, reference: &str) -> Result<Url, ProbeError> {
    let inside = format!("{}/", base.path().trim_end_matches('/'));
    let resolved = if reference.len() > REFERENCE {
        Err("an address of more than 2 KiB")
    } else {
        stream
            .join(reference)
            .map_err(|_| "an address that cannot be read")
    };
    let is_inside = |url: &Url| {
        url.origin() == stream.origin()
            && (url.username(), url.password()) == (stream.username(), stream.password())
            && url.path().starts_with(&inside)
            && !leaves(url.path())
    };
    match resolved {
        Ok(url) if is_inside(&url) => Ok(url),
        outside => Err(ProbeError::SseEndpointOutsidePath {
            stream: shown(stream),
            endpoint: match outside {
                Ok(url) if !url.username().is_empty() || url.password().is_some() => {
                    "an address with a name or a password".to_owned()
                }
                Ok(url) if url.origin() == stream.origin() => mask(url.path()),
                Ok(url) => shown(&url),
                Err(problem) => problem.to_owned(),
            },
            inside: if inside == "/" {
                "the server's origin".to_owned()
            } else {
                inside
            },
        }),
    }
}

/// Whether a path has a segment that leads up, however often it is encoded.
fn leaves(path: &str) -> bool {
    let leads_up = |path: &str| path.split(['/', '\\']).any(|segment| segment == "..");
    let mut path = path.to_owned();
    loop {
        let decoded = percent_decode_str(&path).decode_utf8_lossy().into_owned();
        if leads_up(&decoded) || decoded == path {
            return leads_up(&decoded);
        }
        path = decoded;
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
    match answer::accepted(reply, exchange.target).await {
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

    const GATEWAY: &str = "https://gw.example/demo/tools/weather";

    type Case = (&'static str, &'static str, Result<&'static str, &'static str>);

    /// Where the API or the server is, what the event says, and where that leads or why it does not.
    const CASES: &[Case] = &[
        (
            GATEWAY,
            "messages/1?session_id=1",
            Ok("/demo/tools/weather/messages/1"),
        ),
        (
            GATEWAY,
            "/demo/tools/weather/messages/1",
            Ok("/demo/tools/weather/messages/1"),
        ),
        (
            GATEWAY,
            "https://gw.example/demo/tools/weather/m",
            Ok("/demo/tools/weather/m"),
        ),
        (GATEWAY, "/messages/1", Err("/messages/1")),
        (GATEWAY, "/demo/tools/weather2/m", Err("/demo/tools/weather2/m")),
        (GATEWAY, "../other/m", Err("/demo/tools/other/m")),
        (GATEWAY, "%2e%2e/other/m", Err("/demo/tools/other/m")),
        (
            GATEWAY,
            "http://gw.example/demo/tools/weather/m",
            Err("http://gw.example/demo/tools/weather/m"),
        ),
        (
            GATEWAY,
            "//evil.example/demo/tools/weather/m",
            Err("https://evil.example/demo/tools/weather/m"),
        ),
        (
            GATEWAY,
            "https://gw.example:8443/demo/tools/weather/m",
            Err("https://gw.example:8443/demo/tools/weather/m"),
        ),
        (
            GATEWAY,
            "https://root:secret@gw.example/demo/tools/weather/m",
            Err("an address with a name or a password"),
        ),
        (
            GATEWAY,
            "//root@gw.example/demo/tools/weather/m",
            Err("an address with a name or a password"),
        ),
        (
            GATEWAY,
            "x/..%2f..%5Cother/m",
            Err("/demo/tools/weather/x/..%2f..%5Cother/m"),
        ),
        (
            GATEWAY,
            "x/%252e%252e%252fother",
            Err("/demo/tools/weather/x/<id>"),
        ),
        (GATEWAY, "a%2Fb..c/m", Ok("/demo/tools/weather/a%2Fb..c/m")),
        (GATEWAY, "file:///etc/passwd", Err("null/etc/passwd")),
        (
            "http://weather.tools.svc:80",
            "http://169.254.169.254/metadata",
            Err("http://169.254.169.254/metadata"),
        ),
        (
            "http://weather.tools.svc:80",
            "http://weather.tools.svc:81/messages",
            Err("http://weather.tools.svc:81/messages"),
        ),
        ("http://weather.tools.svc:80", "/messages/1", Ok("/messages/1")),
        ("http://weather.tools.svc:80", "messages/1", Ok("/messages/1")),
    ];

    #[test]
    fn endpoints_must_stay_inside_the_path() {
        for &(base, reference, expected) in CASES {
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
        let base = Url::parse("http://weather.tools.svc").unwrap();
        let long = resolve(&base, &base, &"m".repeat(3_000)).unwrap_err();
        assert!(long.to_string().contains("more than 2 KiB"), "{long}");
    }
}
