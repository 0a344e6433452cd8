//! The open streams of this replica: a body that hyper sends goes out, and a sender per stream stays here, found by its token.

use super::framing::{GOODBYE, KEEP_ALIVE};
use super::waiting::{self, Waiting};
use crate::http::refusal::Refusal;
use crate::metrics::Metrics;
use bytes::Bytes;
use http_body::{Body, Frame};
use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, Sender};
use tokio::time::{Interval, MissedTickBehavior};

/// Events that wait for a reader at most, beside the bounds on their bytes; one that is slower is cut off.
const WAITING_EVENTS: usize = 32;
/// Calls of one stream that may run at once.
const RUNNING_CALLS: u32 = 32;
/// Locks that share the streams, so that opening one seldom waits for another.
const SHARDS: usize = 16;

/// Every open stream.
#[derive(Debug)]
pub struct Streams {
    shards: [Mutex<HashMap<u128, Arc<Stream>>>; SHARDS],
    open: AtomicUsize,
    /// Bytes that wait for the readers of all streams, and of long answers.
    waiting: Arc<AtomicUsize>,
    cap: usize,
    /// Set before the first shard is emptied and read under a shard's lock, so that no stream is left behind.
    ended: AtomicBool,
    metrics: Arc<Metrics>,
}

/// The sending half of a stream.
#[derive(Debug)]
pub struct Stream {
    token: u128,
    events: Sender<Bytes>,
    waiting: Waiting,
    running: AtomicU32,
}

impl Streams {
    /// At most `cap` at once.
    pub fn with_cap(cap: usize, metrics: Arc<Metrics>) -> Streams {
        Streams {
            shards: Default::default(),
            open: AtomicUsize::new(0),
            waiting: Arc::default(),
            cap,
            ended: AtomicBool::new(false),
            metrics,
        }
    }

    /// Open a stream that begins with `first`, unless there are too many or all are being ended. It can be found before the
    /// client hears of it.
    pub fn open(
        self: &Arc<Self>,
        token: u128,
        first: Bytes,
        keep_alive: Duration,
    ) -> Result<StreamBody, Refusal> {
        self.open_with_end(token, first, GOODBYE, keep_alive)
    }

    /// The same with `last` as its end, if it is we who end it.
    pub fn open_with_end(
        self: &Arc<Self>,
        token: u128,
        first: Bytes,
        last: Bytes,
        keep_alive: Duration,
    ) -> Result<StreamBody, Refusal> {
        let place = self
            .open
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |open| {
                (open < self.cap).then_some(open + 1)
            });
        place.map_err(|_| Refusal::TooManyStreams)?;
        let (events, receiver) = mpsc::channel(WAITING_EVENTS);
        let stream = Arc::new(Stream {
            token,
            events,
            waiting: Waiting::begin(&self.waiting),
            running: AtomicU32::new(0),
        });
        let mut shard = self.shard(token);
        if self.ended.load(Ordering::Acquire) {
            self.open.fetch_sub(1, Ordering::AcqRel);
            return Err(Refusal::Draining);
        }
        shard.insert(token, stream);
        drop(shard);
        self.metrics.stream_opened();
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + keep_alive, keep_alive);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(StreamBody {
            streams: Arc::clone(self),
            token,
            first: Some(first),
            last,
            receiver,
            ticks: Box::new(ticks),
            ended: false,
        })
    }

    /// The stream with this token.
    pub fn find(&self, token: u128) -> Option<Arc<Stream>> {
        self.shard(token).get(&token).cloned()
    }

    /// Put an event on a stream. A reader that does not keep up loses the stream, and nobody waits for it.
    pub fn send(&self, stream: &Stream, event: Bytes) {
        let keeps_up = stream.waiting.count(event).is_some_and(|event| {
            let sent = stream.events.try_send(event);
            !matches!(sent, Err(mpsc::error::TrySendError::Full(_)))
        });
        if !keeps_up {
            self.shard(stream.token).remove(&stream.token);
            self.metrics.refused("slow_reader");
        }
    }

    /// End every stream, one by one over `spread`, so that its clients do not come back all at once, and open none any more. A
    /// call that still runs keeps its stream until it is answered.
    pub async fn end_all(&self, spread: Duration) {
        self.ended.store(true, Ordering::Release);
        let tokens: Vec<u128> = (0..SHARDS as u128)
            .flat_map(|at| self.shard(at).keys().copied().collect::<Vec<_>>())
            .collect();
        let pause = spread
            .checked_div(u32::try_from(tokens.len()).unwrap_or(u32::MAX))
            .unwrap_or_default();
        // Timers have a resolution of a millisecond: several streams share a pause when there are many.
        let together = usize::try_from(Duration::from_millis(5).as_nanos() / pause.as_nanos().max(1))
            .unwrap_or(1)
            .max(1);
        for batch in tokens.chunks(together) {
            for token in batch {
                self.shard(*token).remove(token);
            }
            tokio::time::sleep(pause * u32::try_from(batch.len()).unwrap_or(1)).await;
        }
    }

    /// How many are open.
    pub fn count(&self) -> usize {
        self.open.load(Ordering::Acquire)
    }

    /// The answer to a request, counted among what waits for readers if it is long, or `None` when there is no room for it.
    pub fn count_answer(&self, answer: Bytes) -> Option<Bytes> {
        waiting::count_answer(&self.waiting, answer)
    }

    /// Bytes of events and long answers that no client has taken yet.
    pub fn waiting_bytes(&self) -> usize {
        self.waiting.load(Ordering::Acquire)
    }

    fn shard(&self, token: u128) -> MutexGuard<'_, HashMap<u128, Arc<Stream>>> {
        let at = usize::from(token.to_le_bytes()[0]) % SHARDS;
        self.shards[at].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Take one of the places for running calls.
    pub fn begin_call(self: &Arc<Self>) -> Option<RunningCall> {
        let place = self
            .running
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |running| {
                (running < RUNNING_CALLS).then_some(running + 1)
            });
        place.ok().map(|_| RunningCall(Arc::clone(self)))
    }
}

/// A place among the running calls of a stream, given back when dropped; keeps the stream from ending.
#[derive(Debug)]
pub struct RunningCall(pub Arc<Stream>);

impl Drop for RunningCall {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

/// The receiving half: a body without end.
#[derive(Debug)]
pub struct StreamBody {
    streams: Arc<Streams>,
    token: u128,
    first: Option<Bytes>,
    last: Bytes,
    receiver: Receiver<Bytes>,
    ticks: Box<Interval>,
    ended: bool,
}

impl Body for StreamBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.ended {
            return Poll::Ready(None);
        }
        let event = if let Some(first) = self.first.take() {
            first
        } else {
            match self.receiver.poll_recv(context) {
                Poll::Ready(Some(event)) => event,
                Poll::Ready(None) => {
                    self.ended = true;
                    std::mem::take(&mut self.last)
                }
                Poll::Pending => {
                    std::task::ready!(self.ticks.poll_tick(context));
                    KEEP_ALIVE
                }
            }
        };
        Poll::Ready(Some(Ok(Frame::data(event))))
    }
}

impl Drop for StreamBody {
    fn drop(&mut self) {
        self.streams.shard(self.token).remove(&self.token);
        self.streams.open.fetch_sub(1, Ordering::AcqRel);
        self.streams.metrics.stream_closed();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sse::waiting::OF_ALL;
    use http_body_util::BodyExt as _;

    fn streams(cap: usize) -> Arc<Streams> {
        Arc::new(Streams::with_cap(cap, Arc::default()))
    }

    async fn next(body: &mut StreamBody) -> Option<Bytes> {
        body.frame()
            .await
            .map(|frame| frame.unwrap().into_data().unwrap())
    }

    #[tokio::test]
    async fn events_come_in_order_and_the_end_is_said() {
        let streams = streams(1);
        let mut body = streams.open(7, "first".into(), Duration::from_mins(1)).unwrap();
        let stream = streams.find(7).unwrap();
        streams.send(&stream, "second".into());
        drop(stream);
        assert_eq!(next(&mut body).await.unwrap(), "first");
        assert_eq!(next(&mut body).await.unwrap(), "second");
        streams.end_all(Duration::ZERO).await;
        assert_eq!(next(&mut body).await.unwrap(), GOODBYE);
        assert_eq!(next(&mut body).await, None);
        assert!(streams.find(7).is_none());
    }

    #[tokio::test]
    async fn a_quiet_stream_is_kept_alive() {
        let period = Duration::from_millis(50);
        let mut body = streams(1).open(1, "first".into(), period).unwrap();
        next(&mut body).await;
        let before = std::time::Instant::now();
        assert_eq!(next(&mut body).await.unwrap(), KEEP_ALIVE);
        assert!(before.elapsed() > period / 2, "{:?}", before.elapsed());
    }

    #[tokio::test]
    async fn a_closed_stream_makes_room() {
        let streams = streams(2);
        let first = streams.open(1, "".into(), Duration::from_secs(1)).unwrap();
        let _second = streams.open(2, "".into(), Duration::from_secs(1)).unwrap();
        assert!(streams.open(3, "".into(), Duration::from_secs(1)).is_err());
        drop(first);
        assert!(streams.find(1).is_none());
        assert!(streams.open(3, "".into(), Duration::from_secs(1)).is_ok());
    }

    #[tokio::test]
    async fn a_slow_reader_is_cut_off() {
        let streams = streams(1);
        let _body = streams.open(1, "".into(), Duration::from_secs(1)).unwrap();
        let stream = streams.find(1).unwrap();
        for _ in 0..=WAITING_EVENTS {
            streams.send(&stream, "x".into());
        }
        assert!(streams.find(1).is_none());
    }

    #[tokio::test]
    async fn none_is_opened_once_they_end() {
        let streams = streams(5);
        let open = |token| streams.open(token, "".into(), Duration::from_secs(1));
        let mut body = open(1).unwrap();
        let spread = Duration::from_millis(200);
        let (refused, ()) = futures::join!(
            // Polled second, while the first stream has been ended and the spread is not over.
            async {
                tokio::task::yield_now().await;
                open(2)
            },
            streams.end_all(spread)
        );
        assert_eq!(refused.err(), Some(Refusal::Draining));
        assert_eq!(next(&mut body).await.unwrap(), "");
        assert_eq!(next(&mut body).await.unwrap(), GOODBYE);
        drop(body);
        assert_eq!(open(3).err(), Some(Refusal::Draining));
        assert_eq!(streams.count(), 0, "what was refused takes no place");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn each_stream_that_is_opened_meanwhile_is_ended_or_refused() {
        let streams = streams(100_000);
        let opening = Arc::clone(&streams);
        let opened = tokio::task::spawn_blocking(move || {
            let mut bodies = Vec::new();
            for token in 0.. {
                match opening.open(token, "".into(), Duration::from_mins(1)) {
                    Ok(body) => bodies.push(body),
                    Err(refusal) => return (bodies, refusal),
                }
            }
            unreachable!("there are not so many tokens")
        });
        while streams.count() < 100 {
            tokio::task::yield_now().await;
        }
        streams.end_all(Duration::ZERO).await;
        let (bodies, refusal) = opened.await.unwrap();
        assert_eq!(refusal, Refusal::Draining);
        for mut body in bodies {
            next(&mut body).await;
            assert_eq!(next(&mut body).await.unwrap(), GOODBYE);
        }
    }

    #[tokio::test]
    async fn readers_that_read_nothing_are_cut_off_by_their_bytes() {
        let streams = streams(1000);
        let event = Bytes::from(vec![b'x'; 400_000]);
        let mut bodies: Vec<_> = (0..200)
            .map(|token| streams.open(token, "".into(), Duration::from_secs(1)).unwrap())
            .collect();
        for _ in 0..WAITING_EVENTS {
            for token in 0..200 {
                if let Some(stream) = streams.find(token) {
                    streams.send(&stream, event.clone());
                }
                assert!(streams.waiting_bytes() <= OF_ALL);
            }
        }
        assert!(streams.waiting_bytes() > OF_ALL / 2, "events do wait");
        assert!((0..200).all(|token| streams.find(token).is_none()));
        // One that reads at last gets what was put on its stream before it was cut off.
        let before = streams.waiting_bytes();
        assert_eq!(next(&mut bodies[0]).await.unwrap(), "");
        assert_eq!(next(&mut bodies[0]).await.unwrap(), event);
        assert_eq!(streams.waiting_bytes(), before - event.len());
        drop(bodies);
        assert_eq!(streams.waiting_bytes(), 0);
    }

    #[tokio::test]
    async fn an_event_for_a_stream_that_is_gone_does_not_count() {
        let streams = streams(1);
        let body = streams.open(1, "".into(), Duration::from_secs(1)).unwrap();
        let stream = streams.find(1).unwrap();
        streams.send(&stream, "x".into());
        drop(body);
        streams.send(&stream, "x".into());
        assert_eq!(streams.waiting_bytes(), 0);
    }

    #[tokio::test]
    async fn a_running_call_is_answered_before_the_end() {
        let streams = streams(1);
        let mut body = streams.open(1, "first".into(), Duration::from_mins(1)).unwrap();
        let call = streams.find(1).unwrap().begin_call().unwrap();
        streams.end_all(Duration::ZERO).await;
        streams.send(&call.0, "late".into());
        drop(call);
        assert_eq!(next(&mut body).await.unwrap(), "first");
        assert_eq!(next(&mut body).await.unwrap(), "late");
        assert_eq!(next(&mut body).await.unwrap(), GOODBYE);
    }
}
