//! A server that gives prepared answers in order and remembers what it was asked.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use axum::{
    Router,
    body::Body,
    extract::{Request, State},
    response::Response,
};
use http::{HeaderMap, Method, Uri};
use serde_json::{Value, json};

use crate::azure::apim::{
    ArmClient, AuthError, Cloud, Limits, Observer, PlainHttp, Rates, SecretString, Target, Throttle,
    TokenSource, http_client,
};

/// What the server does with one request.
#[derive(Clone, Debug)]
pub(super) enum Answer {
    Reply {
        status: u16,
        headers: Vec<(&'static str, String)>,
        body: String,
    },
    /// Reads the request and closes the connection.
    Cut,
    /// Never answers.
    Hang,
}

#[expect(clippy::needless_pass_by_value, reason = "the callers make it on the spot")]
pub(super) fn reply(status: u16, body: Value) -> Answer {
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    Answer::Reply {
        status,
        headers: vec![],
        body,
    }
}

impl Answer {
    pub(super) fn with(self, name: &'static str, value: impl Into<String>) -> Self {
        match self {
            Self::Reply {
                status,
                mut headers,
                body,
            } => {
                headers.push((name, value.into()));
                Self::Reply {
                    status,
                    headers,
                    body,
                }
            }
            other => other,
        }
    }
}

#[derive(Debug)]
pub(super) struct Seen {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) headers: HeaderMap,
}

#[derive(Debug, Default)]
struct Script {
    answers: Mutex<VecDeque<Answer>>,
    seen: Mutex<Vec<Seen>>,
}

/// A prepared server and a client for it.
#[derive(Debug)]
pub(super) struct Fixture {
    script: Arc<Script>,
    pub(super) client: ArmClient,
    pub(super) tokens: Arc<CountedTokens>,
    pub(super) outcomes: Arc<Outcomes>,
    pub(super) base: String,
}

impl Fixture {
    pub(super) async fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
        let script = Arc::new(Script {
            answers: Mutex::new(answers.into_iter().collect()),
            ..Script::default()
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(script.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        let tokens = Arc::new(CountedTokens::default());
        let outcomes = Arc::new(Outcomes::default());
        let client = client(&base, tokens.clone(), outcomes.clone());
        Self {
            script,
            client,
            tokens,
            outcomes,
            base,
        }
    }

    pub(super) fn seen(&self) -> Vec<String> {
        let seen = self.script.seen.lock().unwrap();
        seen.iter()
            .map(|seen| format!("{} {}", seen.method, seen.uri.path().rsplit('/').next().unwrap()))
            .collect()
    }

    pub(super) fn header(&self, index: usize, name: &str) -> Option<String> {
        let seen = self.script.seen.lock().unwrap();
        Some(seen[index].headers.get(name)?.to_str().unwrap().to_owned())
    }

    pub(super) fn query(&self, index: usize) -> String {
        self.script.seen.lock().unwrap()[index]
            .uri
            .query()
            .unwrap_or_default()
            .to_owned()
    }
}

pub(super) fn client(base: &str, tokens: Arc<dyn TokenSource>, observer: Arc<dyn Observer>) -> ArmClient {
    let cloud = Cloud::Custom {
        endpoint: base.parse().unwrap(),
        authority: "https://login.example.com".parse().unwrap(),
        audience: "https://management.example.com".into(),
    };
    let target = Target::new("s", "g", "contoso", cloud, PlainHttp::LoopbackOnly).unwrap();
    let http = http_client(None, PlainHttp::LoopbackOnly).unwrap();
    let throttle = Arc::new(Throttle::new(Rates::default()));
    ArmClient::new(http, target, tokens, throttle, observer).with_limits(Limits {
        read: Duration::from_millis(400),
        write: Duration::from_millis(400),
        pause: Duration::from_secs(2),
        turn: Duration::from_secs(30),
        operation: Duration::from_secs(3),
        inventory: Duration::ZERO,
        again: Duration::from_millis(5),
    })
}

async fn answer(State(script): State<Arc<Script>>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let _ = axum::body::to_bytes(body, 1 << 20).await;
    script.seen.lock().unwrap().push(Seen {
        method: parts.method,
        uri: parts.uri,
        headers: parts.headers,
    });
    let next = script.answers.lock().unwrap().pop_front();
    let missing = json!({"error": {"code": "Exhausted", "message": "no answer is left"}});
    match next.unwrap_or_else(|| reply(418, missing)) {
        Answer::Reply {
            status,
            headers,
            body,
        } => {
            let mut response = Response::builder().status(status);
            for (name, value) in headers {
                response = response.header(name, value);
            }
            response.body(Body::from(body)).unwrap()
        }
        // A body that fails at once takes the connection with it.
        Answer::Cut => {
            let failing = futures::stream::iter([Err::<bytes::Bytes, _>(std::io::Error::other("cut"))]);
            Response::builder()
                .header("content-length", "10")
                .body(Body::from_stream(failing))
                .unwrap()
        }
        Answer::Hang => std::future::pending().await,
    }
}

#[derive(Debug, Default)]
pub(super) struct CountedTokens {
    pub(super) invalidated: Mutex<u32>,
}

#[async_trait]
impl TokenSource for CountedTokens {
    async fn token(&self) -> Result<SecretString, AuthError> {
        Ok(SecretString::new(format!(
            "token-{}",
            self.invalidated.lock().unwrap()
        )))
    }

    async fn invalidate(&self) {
        *self.invalidated.lock().unwrap() += 1;
    }
}

#[derive(Debug, Default)]
pub(super) struct Outcomes(pub(super) Mutex<Vec<String>>);

impl Observer for Outcomes {
    fn request(&self, verb: &'static str, resource: &'static str, outcome: &'static str, _: Duration) {
        self.0
            .lock()
            .unwrap()
            .push(format!("{verb} {resource} {outcome}"));
    }
}
