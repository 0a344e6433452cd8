//! One port: its listener goes in, and its connections are served, so many at once, until it is told to stop.
//!
//! Over the cap a connection waits in the system's queue: each one that is idle or slow is closed by a timer, so a place comes free,
//! whereas a client whose connection is refused would only come back at once.

use crate::connection::Connections;
use crate::metrics::Metrics;
use crate::seldom::Seldom;
use axum::Router;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Wait after a failed accept, which is mostly too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A port before it is opened.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// For the headers of a request; also how long an idle connection is kept.
    pub(crate) header_time: Duration,
    /// For which a client may leave bytes unread.
    pub(crate) write_time: Duration,
    /// Streams do not count.
    pub(crate) max_connections: usize,
    pub(crate) metrics: Arc<Metrics>,
}

impl Port {
    /// Take connections until told to stop, then finish the requests that are under way.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<()>) {
        let connections = Connections::to(
            self.router.clone(),
            self.header_time,
            self.write_time,
            Arc::clone(&self.metrics),
        );
        let places = Arc::new(Semaphore::new(self.max_connections.min(Semaphore::MAX_PERMITS)));
        let shortages = Seldom::default();
        let (closing, close) = watch::channel(());
        loop {
            let (socket, place) = tokio::select! {
                taken = self.take(&places, &shortages) => match taken {
                    Some(taken) => taken,
                    None => continue,
                },
                _ = stop.changed() => break,
            };
            // Its receiver is among those that the end of the port waits for.
            let held = (self.metrics.connection_opened(), close.clone());
            let served = connections.clone().serve(socket, close.clone());
            tokio::spawn(async move {
                let rest = served.await;
                // A stream takes little memory, and has a cap of its own.
                drop(place);
                if let Some(rest) = rest {
                    // In a task of its own, as this one keeps the room that hyper needed.
                    tokio::spawn(async move {
                        rest.send().await;
                        drop(held);
                    });
                }
            });
        }
        drop((self.listener, close));
        closing.send_replace(());
        closing.closed().await;
    }

    /// The next connection, once there is a place for it.
    async fn take(
        &self,
        places: &Arc<Semaphore>,
        shortages: &Seldom,
    ) -> Option<(TcpStream, OwnedSemaphorePermit)> {
        let place = if let Ok(place) = Arc::clone(places).try_acquire_owned() {
            place
        } else {
            self.metrics.connections_full();
            if let Some(times) = shortages.due("connections") {
                tracing::warn!(
                    open = self.max_connections,
                    times,
                    "no more connections: raise MAX_CONNECTIONS"
                );
            }
            Arc::clone(places).acquire_owned().await.ok()?
        };
        match self.listener.accept().await {
            Ok((socket, _)) => Some((socket, place)),
            Err(error) => {
                if let Some(times) = shortages.due("accept") {
                    tracing::warn!(%error, times, "failed to accept a connection");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
                None
            }
        }
    }
}
