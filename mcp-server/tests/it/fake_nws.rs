//! A weather service on loopback: it answers as a test tells it to, and remembers what it was asked.

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::Semaphore;

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    delay: Duration,
    gate: Option<Gate>,
}

/// Holds answers back until it is opened.
#[derive(Debug, Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn open(&self) {
        self.0.close();
    }

    async fn pass(&self) {
        // There are no permits: the wait ends with the error that it is closed.
        let _ = self.0.acquire().await;
    }
}

impl Answer {
    pub(crate) fn ok(body: impl Into<Vec<u8>>) -> Answer {
        let headers = vec![
            ("content-type", "application/geo+json".into()),
            ("cache-control", "max-age=60".into()),
        ];
        Answer {
            status: 200,
            headers,
            body: body.into(),
            delay: Duration::ZERO,
            gate: None,
        }
    }

    pub(crate) fn problem(status: u16, body: &[u8]) -> Answer {
        let headers = vec![("content-type", "application/problem+json".into())];
        Answer {
            status,
            headers,
            body: body.into(),
            delay: Duration::ZERO,
            gate: None,
        }
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Answer {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value.into()));
        self
    }

    pub(crate) fn after(mut self, delay: Duration) -> Answer {
        self.delay = delay;
        self
    }

    pub(crate) fn behind(mut self, gate: &Gate) -> Answer {
        self.gate = Some(gate.clone());
        self
    }
}

type Script = dyn Fn(&str, usize) -> Answer + Send + Sync;

struct Shared {
    script: Box<Script>,
    seen: Mutex<Vec<String>>,
    agents: Mutex<Vec<(String, String)>>,
}

/// A running fake.
pub(crate) struct FakeNws {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

impl FakeNws {
    /// `script` gets a path and how often that path was asked before.
    pub(crate) async fn start(script: impl Fn(&str, usize) -> Answer + Send + Sync + 'static) -> FakeNws {
        let shared = Arc::new(Shared {
            script: Box::new(script),
            seen: Mutex::default(),
            agents: Mutex::default(),
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(answer).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        FakeNws { url, shared }
    }

    /// The fixtures, everywhere.
    pub(crate) async fn good() -> FakeNws {
        FakeNws::start(|path, _| good(path)).await
    }

    /// Paths asked so far.
    pub(crate) fn seen(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// User-Agent and Accept of each request.
    pub(crate) fn agents(&self) -> Vec<(String, String)> {
        self.shared.agents.lock().unwrap().clone()
    }
}

/// The fixture for a path.
pub(crate) fn good(path: &str) -> Answer {
    if path.starts_with("/alerts/") {
        Answer::ok(include_bytes!("../fixtures/pynws_alerts_active_zone.json"))
    } else if path.starts_with("/points/") {
        Answer::ok(include_bytes!("../fixtures/pynws_points.json"))
    } else if path == "/gridpoints/TAE/58,65/forecast" {
        Answer::ok(include_bytes!(
            "../fixtures/wxgov_testing_gridpoints_OAX_forecast.json"
        ))
    } else {
        Answer::problem(404, include_bytes!("../fixtures/problem_InvalidPoint_404.json"))
    }
}

/// The alerts of a state with so many of them.
pub(crate) fn many_alerts(count: usize) -> Answer {
    let mut alerts: serde_json::Value = serde_json::from_slice(&good("/alerts/").body).unwrap();
    let one = alerts["features"][0].clone();
    alerts["features"] = vec![one; count].into();
    Answer::ok(alerts.to_string())
}

async fn answer(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().to_string();
    let (request, _) = request.into_parts();
    let header = |name: &str| {
        request
            .headers
            .get(name)
            .map_or("", |value| value.to_str().unwrap())
            .to_owned()
    };
    shared
        .agents
        .lock()
        .unwrap()
        .push((header("user-agent"), header("accept")));
    let before = {
        let mut seen = shared.seen.lock().unwrap();
        let before = seen.iter().filter(|known| **known == path).count();
        seen.push(path.clone());
        before
    };
    let answer = (shared.script)(&path, before);
    tokio::time::sleep(answer.delay).await;
    if let Some(gate) = &answer.gate {
        gate.pass().await;
    }
    let mut response = Response::builder().status(answer.status);
    for (name, value) in answer.headers {
        response = response.header(name, value);
    }
    response.body(Body::from(answer.body)).unwrap()
}
