//! When a connection counts as idle or too slow: no request for a minute, or a head that does not come to its end.

use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    sync::Notify,
    time::{Instant, sleep_until},
};

use super::{HEAD_WITHIN, IDLE_MAX};

/// What an HTTP/2 connection begins with (RFC 9113 section 3.4); its later bytes are frames, not heads.
const HTTP_2_BEGINNING: &[u8] = b"PRI ";

/// What one connection does, seen by its stream and its requests.
#[derive(Clone)]
pub(super) struct Activity(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    in_flight: usize,
    /// The last time that a request ended or bytes of an answer went out.
    last: Instant,
    /// When the first byte of a head came whose request has not begun.
    head_since: Option<Instant>,
    protocol: Protocol,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Unknown,
    Http1,
    Http2,
}

/// A request in flight; dropped when it is answered or given up.
pub(super) struct InFlight(Activity);

impl Activity {
    pub(super) fn new() -> Self {
        let state = State { in_flight: 0, last: Instant::now(), head_since: None, protocol: Protocol::Unknown };
        Self(Arc::new(Shared { state: Mutex::new(state), changed: Notify::new() }))
    }

    /// A request's head is complete.
    pub(super) fn begin(&self) -> InFlight {
        let mut state = self.lock();
        state.in_flight += 1;
        state.head_since = None;
        drop(state);
        self.0.changed.notify_one();
        InFlight(self.clone())
    }

    /// Ends when the connection has been idle or slow for too long.
    pub(super) async fn overdue(&self) {
        loop {
            let deadline = self.lock().deadline();
            match deadline {
                Some(deadline) if deadline <= Instant::now() => return,
                Some(deadline) => tokio::select! {
                    () = sleep_until(deadline) => {}
                    () = self.0.changed.notified() => {}
                },
                None => self.0.changed.notified().await,
            }
        }
    }

    fn received(&self, bytes: &[u8]) {
        let mut state = self.lock();
        if state.protocol == Protocol::Unknown {
            let is_http_2 = HTTP_2_BEGINNING.starts_with(&bytes[..bytes.len().min(HTTP_2_BEGINNING.len())]);
            state.protocol = if is_http_2 { Protocol::Http2 } else { Protocol::Http1 };
        }
        if state.protocol == Protocol::Http1 && state.in_flight == 0 && state.head_since.is_none() {
            state.head_since = Some(Instant::now());
            drop(state);
            self.0.changed.notify_one();
        }
    }

    fn sent(&self) {
        self.lock().last = Instant::now();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn deadline(&self) -> Option<Instant> {
        let idle = (self.in_flight == 0).then(|| self.last + IDLE_MAX);
        let head = self.head_since.map(|since| since + HEAD_WITHIN);
        idle.into_iter().chain(head).min()
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.in_flight -= 1;
        state.last = Instant::now();
        drop(state);
        self.0.0.changed.notify_one();
    }
}

/// A stream that tells what passes through it.
pub(super) struct Watched<S> {
    stream: S,
    activity: Activity,
}

impl<S> Watched<S> {
    pub(super) fn new(stream: S, activity: Activity) -> Self {
        Self { stream, activity }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let polled = Pin::new(&mut self.stream).poll_read(context, into);
        if polled.is_ready() && into.filled().len() > before {
            self.activity.received(&into.filled()[before..]);
        }
        polled
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(polled, Poll::Ready(Ok(_))) {
            self.activity.sent();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
