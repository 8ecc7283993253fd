//! What each other datacenter may do at once. One that does too much uses up its own share, never the others'.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use carrack_authority::{federation::DATACENTERS_MAX, spiffe::Name};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit},
    time::Instant,
};
use tonic::Status;

use crate::server::admission::Admission;

/// A datacenter's leader follows seven tables; while leadership moves there, the former one's streams are still open.
const STREAMS_MAX: usize = 32;
/// Each signature takes about a millisecond of the root's key.
const SIGNATURES_MAX: usize = 4;
/// Clients' requests that are passed on: each may be a blocking query, and each server there may pass on some hundred.
const CALLS_MAX: usize = 512;
/// A datacenter that begins wants an issuer for each of its servers within some seconds.
const SIGNATURES_PER_SECOND: u32 = 4;
/// A datacenter tells its addresses when they change; each time the others hear of it.
const ANNOUNCEMENTS_PER_SECOND: u32 = 1;
/// In a rotation it tells of each step as it is taken, and each is an entry of the log here.
const STANDINGS_PER_SECOND: u32 = 4;

/// The share of one datacenter.
pub(crate) struct Share {
    streams: Arc<Semaphore>,
    signatures: Semaphore,
    calls: Semaphore,
    signing: Admission,
    announcing: Admission,
    standing: Admission,
}

impl Default for Share {
    fn default() -> Self {
        Self {
            streams: Arc::new(Semaphore::new(STREAMS_MAX)),
            signatures: Semaphore::new(SIGNATURES_MAX),
            calls: Semaphore::new(CALLS_MAX),
            signing: Admission::default(),
            announcing: Admission::default(),
            standing: Admission::default(),
        }
    }
}

fn too_many(what: &str) -> Status {
    Status::resource_exhausted(format!(
        "too many {what} of the datacenter that asks are open or come too fast: it is tried again later"
    ))
}

impl Share {
    /// A place for a stream, for as long as it lasts.
    pub(crate) fn stream(&self) -> Result<OwnedSemaphorePermit, Status> {
        self.streams.clone().try_acquire_owned().map_err(|_| too_many("streams"))
    }

    /// A place for a signature.
    pub(crate) fn signature(&self) -> Result<SemaphorePermit<'_>, Status> {
        let admitted = self.signing.take(SIGNATURES_PER_SECOND, 1, Instant::now());
        admitted.map_err(|_| too_many("requests for issuers"))?;
        self.signatures.try_acquire().map_err(|_| too_many("requests for issuers"))
    }

    /// A place for a client's request.
    pub(crate) fn call(&self) -> Result<SemaphorePermit<'_>, Status> {
        self.calls.try_acquire().map_err(|_| too_many("requests of clients"))
    }

    /// Whether it may tell its addresses now.
    pub(crate) fn announcement(&self) -> Result<(), Status> {
        let admitted = self.announcing.take(ANNOUNCEMENTS_PER_SECOND, 1, Instant::now());
        admitted.map_err(|_| too_many("announcements"))
    }

    /// Whether it may tell now where it is with the roots.
    pub(crate) fn standing(&self) -> Result<(), Status> {
        let admitted = self.standing.take(STANDINGS_PER_SECOND, 1, Instant::now());
        admitted.map_err(|_| too_many("words on where it is with the roots"))
    }
}

/// The shares of all datacenters that have asked for something.
#[derive(Default)]
pub(crate) struct Shares(Mutex<BTreeMap<Name, Arc<Share>>>);

impl Shares {
    /// The share of a datacenter. Who asks, the connection has shown, so that there are no more than those that are known.
    pub(crate) fn of(&self, datacenter: &Name) -> Arc<Share> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= 2 * DATACENTERS_MAX {
            // Those of datacenters that were removed meanwhile.
            shares.retain(|_, share| Arc::strong_count(share) > 1);
        }
        shares.entry(datacenter.clone()).or_default().clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse("datacenter", text).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_datacenter_uses_up_its_own_share_and_not_the_others() {
        let shares = Shares::default();
        let (greedy, modest) = (shares.of(&name("dc2")), shares.of(&name("dc3")));
        let streams: Vec<_> = (0..STREAMS_MAX).map(|_| greedy.stream().unwrap()).collect();
        let calls: Vec<_> = (0..CALLS_MAX).map(|_| greedy.call().unwrap()).collect();
        while greedy.signature().is_ok() {}
        while greedy.announcement().is_ok() {}
        for refused in
            [greedy.stream().map(drop), greedy.call().map(drop), greedy.signature().map(drop), greedy.announcement()]
        {
            assert_eq!(refused.unwrap_err().code(), tonic::Code::ResourceExhausted);
        }
        assert!(shares.of(&name("dc2")).stream().is_err(), "another connection has the same share");
        assert!(modest.stream().is_ok() && modest.call().is_ok());
        assert!(modest.signature().is_ok() && modest.announcement().is_ok());
        drop((streams, calls));
        assert!(greedy.stream().is_ok() && greedy.call().is_ok());
        tokio::time::advance(std::time::Duration::from_secs(2)).await;
        assert!(greedy.signature().is_ok() && greedy.announcement().is_ok());
    }
}
