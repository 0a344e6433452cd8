//! The socket of a connection, with what has to be known of it while hyper has it: whether a request has begun, and whether all
//! that was to be sent is sent. When it is dropped it says a last word, if it was given one: hyper ends a connection whose
//! headers do not come in time without any.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// The socket.
#[derive(Debug)]
pub(crate) struct Wire {
    socket: TcpStream,
    shared: Arc<Shared>,
}

/// What is known of it.
#[derive(Debug)]
pub(crate) struct Watch(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    /// Something came since something was sent last.
    begun: AtomicBool,
    /// The peer takes nothing at the moment.
    blocked: AtomicBool,
    last_word: OnceLock<Vec<u8>>,
}

impl Wire {
    pub(crate) fn on(socket: TcpStream) -> (Wire, Watch) {
        let shared = Arc::<Shared>::default();
        let watch = Watch(Arc::clone(&shared));
        (Wire { socket, shared }, watch)
    }

    fn sent(&self, sent: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        // Whoever looks is the task that reads and writes, so no order has to be kept.
        self.shared.blocked.store(sent.is_pending(), Ordering::Relaxed);
        if matches!(sent, Poll::Ready(Ok(_))) {
            self.shared.begun.store(false, Ordering::Relaxed);
        }
        sent
    }
}

impl Watch {
    /// Whether a part of a request has come that nothing was answered to; an idle connection is owed nothing.
    pub(crate) fn has_begun(&self) -> bool {
        self.0.begun.load(Ordering::Relaxed)
    }

    /// Whether bytes wait for the peer to take some.
    pub(crate) fn is_blocked(&self) -> bool {
        self.0.blocked.load(Ordering::Relaxed)
    }

    /// Send this when the connection is dropped, as far as the socket takes it at once.
    pub(crate) fn last_word(&self, bytes: Vec<u8>) {
        // There is one end of a connection, so nothing was set before.
        let _ = self.0.last_word.set(bytes);
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(bytes) = self.shared.last_word.get() {
            // The peer may be gone as well.
            let _ = self.socket.try_write(bytes);
        }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.socket).poll_read(context, buffer);
        if buffer.filled().len() > before {
            self.shared.begun.store(true, Ordering::Relaxed);
        }
        read
    }
}

impl AsyncWrite for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.socket).poll_write(context, bytes);
        self.sent(sent)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let sent = Pin::new(&mut self.socket).poll_write_vectored(context, bytes);
        self.sent(sent)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(context)
    }
}
