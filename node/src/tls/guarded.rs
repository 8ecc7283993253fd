//! A connection that ends when what it was accepted by ends: at the expiry of the peer's certificate, and when the peer
//! is no longer trusted.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use rustls::{CommonState, pki_types::CertificateDer};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::sleep,
};

use super::{
    clock::TlsClock,
    peer::{Acceptance, PeerRefusal, VerifiedServer},
    rule::{LiveRule, PeerSide},
    tap::Tap,
};

/// A stream with an end of its own. It is looked at with each read, so reads must go on for it to take effect.
pub struct Guarded<S> {
    inner: S,
    end: Option<Pin<Box<dyn Future<Output = io::Error> + Send>>>,
    has_ended: bool,
    tap: Option<Tap>,
}

impl<S> Guarded<S> {
    /// A stream that has no other end than its own.
    pub(super) fn unguarded(inner: S) -> Self {
        Self { inner, end: None, has_ended: false, tap: None }
    }

    /// A stream that fails with `end`'s error as soon as there is one; what is sent on it goes to the tap too.
    pub(super) fn new(inner: S, end: impl Future<Output = io::Error> + Send + 'static, tap: Option<Tap>) -> Self {
        Self { inner, end: Some(Box::pin(end)), has_ended: false, tap }
    }

    /// The stream inside.
    pub fn inner(&self) -> &S {
        &self.inner
    }

    /// Shows the first `sent` bytes of what was to be sent.
    fn show(&mut self, slices: &[io::IoSlice<'_>], mut sent: usize) {
        let Some(tap) = &mut self.tap else { return };
        for slice in slices {
            let shown = sent.min(slice.len());
            tap(&slice[..shown]);
            sent -= shown;
        }
    }

    fn poll_end(&mut self, context: &mut Context<'_>) -> Poll<io::Error> {
        let Some(end) = &mut self.end else { return Poll::Pending };
        let error = ready!(end.as_mut().poll(context));
        (self.end, self.has_ended) = (None, true);
        Poll::Ready(error)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.has_ended {
            return Poll::Ready(Err(ended()));
        }
        if let Poll::Ready(error) = self.poll_end(context) {
            return Poll::Ready(Err(error));
        }
        Pin::new(&mut self.inner).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Err(ended()));
        }
        let sent = ready!(Pin::new(&mut self.inner).poll_write(context, bytes))?;
        self.show(&[io::IoSlice::new(bytes)], sent);
        Poll::Ready(Ok(sent))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.has_ended {
            return Poll::Ready(Err(ended()));
        }
        let sent = ready!(Pin::new(&mut self.inner).poll_write_vectored(context, slices))?;
        self.show(slices, sent);
        Poll::Ready(Ok(sent))
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(context)
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the connection has ended with what it was accepted by")
}

/// A server at the other end, and what it takes to look at it again.
pub(super) struct PeerConnection {
    pub(super) server: VerifiedServer,
    presented: Vec<CertificateDer<'static>>,
    rule: Arc<dyn LiveRule>,
    side: PeerSide,
    clock: TlsClock,
}

impl PeerConnection {
    /// Who the peer of a finished handshake is. The rule has let it in; this asks it once more for the name.
    pub(super) fn of(
        session: &CommonState,
        rule: Arc<dyn LiveRule>,
        side: PeerSide,
        clock: &TlsClock,
    ) -> io::Result<Self> {
        let presented = session.peer_certificates().unwrap_or_default().to_vec();
        let verified = rule.verify(&presented, clock.now(), side);
        let server = verified.map_err(|refusal| io::Error::new(io::ErrorKind::InvalidData, refusal))?;
        Ok(Self { server, presented, rule, side, clock: clock.clone() })
    }

    /// Waits for the reason to end the connection: the certificate expires, or the rule refuses it by now.
    pub(super) async fn ended(self) -> io::Error {
        let mut changes = self.rule.changes();
        // What changed between the handshake and this subscription is looked at first.
        changes.mark_changed();
        let expiry = expiry_of(&self.server, &self.clock);
        tokio::pin!(expiry);
        loop {
            tokio::select! {
                biased;
                () = &mut expiry => return aborted(&PeerRefusal::expired(&self.server)),
                changed = changes.changed() => if changed.is_err() { std::future::pending::<()>().await },
            }
            if let Err(refusal) = self.rule.verify(&self.presented, self.clock.now(), self.side) {
                return aborted(&refusal);
            }
        }
    }
}

/// Waits for the end of the certificate that the peer was accepted by; for ever if it was accepted by its recorded key.
async fn expiry_of(server: &VerifiedServer, clock: &TlsClock) {
    match server.acceptance {
        // The last second belongs to the certificate.
        Acceptance::Certificate { not_after } => sleep(not_after.since(clock.now()) + LAST_SECOND).await,
        Acceptance::RecordedKey { .. } => std::future::pending().await,
    }
}

const LAST_SECOND: std::time::Duration = std::time::Duration::from_secs(1);

fn aborted(refusal: &PeerRefusal) -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, refusal.clone())
}
