//! One port: its listener goes in, and its connections are served, so many at once, until it is told to stop.
//!
//! Over the cap a connection waits in the system's queue: each one that is idle or slow is closed by a timer, so a place comes free,
//! whereas a client whose connection is refused would only come back at once.

use crate::metrics::Metrics;
use crate::unread::Unread;
use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Bytes of a connection's buffers at most; a request's headers must fit.
const BUFFER: usize = 16 << 10;
/// Wait after a failed accept, which is mostly too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two lines in the log about the same shortage.
const WARN_EVERY: Duration = Duration::from_secs(10);

/// A port before it is opened.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// For the headers of a request; also how long an idle connection is kept.
    pub(crate) header_time: Duration,
    /// For which a client may leave bytes unread.
    pub(crate) write_time: Duration,
    pub(crate) max_connections: usize,
    pub(crate) metrics: Arc<Metrics>,
}

impl Port {
    /// Take connections until told to stop, then finish the requests that are under way.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<()>) {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.header_time)
            .max_buf_size(BUFFER)
            .half_close(false);
        let service = TowerToHyperService::new(self.router.clone());
        let graceful = GracefulShutdown::new();
        let places = Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS)));
        let mut shortage = Shortage::default();
        loop {
            let (socket, place) = tokio::select! {
                taken = self.take(&places, &mut shortage) => match taken {
                    Some(taken) => taken,
                    None => continue,
                },
                _ = stop.changed() => break,
            };
            // A socket that is gone already says so when it is read.
            let _ = socket.set_nodelay(true);
            let socket = TokioIo::new(Unread::cut_off_after(self.write_time, socket));
            let connection = graceful.watch(http.serve_connection(socket, service.clone()));
            let open = self.metrics.connection_opened();
            tokio::spawn(async move {
                if let Err(error) = connection.await {
                    tracing::debug!(%error, "connection ended");
                }
                drop((open, place));
            });
        }
        drop(self.listener);
        graceful.shutdown().await;
    }

    /// The next connection, once there is a place for it.
    async fn take(
        &self,
        places: &Arc<Semaphore>,
        shortage: &mut Shortage,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let place = if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            place
        } else {
            self.metrics.connections_full();
            shortage.warn(|| {
                tracing::warn!(
                    open = self.max_connections,
                    "no more connections: raise MAX_CONNECTIONS"
                );
            });
            Arc::clone(places).acquire_owned().await.ok()?
        };
        match self.listener.accept().await {
            Ok((socket, _)) => Some((socket, place)),
            Err(error) => {
                shortage.warn(|| tracing::warn!(%error, "failed to accept a connection"));
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}

/// Keeps the log from filling while there is too little of something.
#[derive(Debug, Default)]
struct Shortage(Option<Instant>);

impl Shortage {
    fn warn(&mut self, log: impl FnOnce()) {
        if self.0.is_none_or(|last| last.elapsed() > WARN_EVERY) {
            self.0 = Some(Instant::now());
            log();
        }
    }
}
