//! One connection from its first byte to its last: a socket goes in, hyper answers its requests, and an answer without an end
//! is taken out of hyper's hands.

use crate::endless::{self, Endless};
use crate::http::refusal::Refusal;
use crate::metrics::Metrics;
use crate::unread::Unread;
use crate::wire::Wire;
use axum::Router;
use axum::body::Body;
use http::{Response, Version};
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::pin::{Pin, pin};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::sync::watch;

/// Bytes of each buffer of a connection, which hyper never grows beyond; a request's headers must fit. Less hyper does not take, and
/// twice as much times all connections would not fit into a pod.
const BUFFER: usize = 8 << 10;

/// What all connections of a port share.
#[derive(Debug, Clone)]
pub(crate) struct Connections {
    http: http1::Builder,
    service: TowerToHyperService<Router>,
    write_time: Duration,
    metrics: Arc<Metrics>,
}

/// What is left when hyper is done: an answer without an end, to be sent on this socket.
#[derive(Debug)]
pub(crate) struct Rest {
    socket: Unread<Wire>,
    version: Version,
    response: Response<Body>,
}

/// Where the service leaves an answer without an end.
type Slot = Arc<Mutex<Option<(Version, Response<Body>)>>>;

impl Connections {
    /// `header_time` is for the headers of a request, and for which an idle connection is kept; `write_time` is for which a client
    /// may leave bytes unread.
    pub(crate) fn to(
        router: Router,
        header_time: Duration,
        write_time: Duration,
        metrics: Arc<Metrics>,
    ) -> Connections {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(header_time)
            .max_buf_size(BUFFER)
            .half_close(false);
        Connections {
            http,
            service: TowerToHyperService::new(router),
            write_time,
            metrics,
        }
    }

    /// Serve one. When told to stop, the request that is under way is the last.
    pub(crate) async fn serve(self, socket: TcpStream, mut stop: watch::Receiver<()>) -> Option<Rest> {
        // A socket that is gone already says so when it is read.
        let _ = socket.set_nodelay(true);
        let (wire, watch) = Wire::on(socket);
        let socket = TokioIo::new(Unread::cut_off_after(self.write_time, wire));
        let slot = Slot::default();
        let service = {
            let slot = Arc::clone(&slot);
            service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let version = request.version();
                let answering = self.service.call(request);
                let slot = Arc::clone(&slot);
                async move {
                    let Ok(response) = answering.await;
                    if response.extensions().get::<Endless>().is_none() {
                        return Ok::<_, Infallible>(response);
                    }
                    *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some((version, response));
                    // Whoever polls this looks into the slot next.
                    pending().await
                }
            })
        };
        let mut connection = self.http.serve_connection(socket, service);
        let mut told = pin!(stop.changed());
        let mut stopping = false;
        let ended = poll_fn(|context| {
            if !stopping && told.as_mut().poll(context).is_ready() {
                stopping = true;
                Pin::new(&mut connection).graceful_shutdown();
            }
            if let Poll::Ready(ended) = Pin::new(&mut connection).poll(context) {
                return Poll::Ready(ended.err().map_or(Ended::Closed, Ended::Broken));
            }
            // What was answered before has to be on its way. hyper writes until nothing is left or the socket is blocked.
            if watch.is_blocked() {
                return Poll::Pending;
            }
            let endless = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
            endless.map_or(Poll::Pending, |endless| Poll::Ready(Ended::Endless(endless)))
        });
        match ended.await {
            Ended::Closed => None,
            Ended::Broken(error) => {
                tracing::debug!(%error, "connection ended");
                if error.is_timeout() && watch.has_begun() && !watch.is_blocked() {
                    watch.last_word(Refusal::HeaderTimeout.written_out(&self.metrics));
                }
                None
            }
            Ended::Endless((version, response)) => Some(Rest {
                socket: connection.into_parts().io.into_inner(),
                version,
                response,
            }),
        }
    }
}

/// How hyper's part of a connection ends.
enum Ended {
    Closed,
    Broken(hyper::Error),
    Endless((Version, Response<Body>)),
}

impl Rest {
    /// Send it, until either side ends it.
    pub(crate) async fn send(self) {
        if let Err(error) = endless::send(self.socket, self.version, self.response).await {
            tracing::debug!(%error, "stream ended");
        }
    }
}
