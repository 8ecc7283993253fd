//! What happens in a run, event by event. Two runs of one seed give the same trace, byte for byte; its digest says so in a line.

use std::{collections::VecDeque, fmt, sync::Arc};

use carrack_raft::Role;
use sha2::{Digest, Sha256};

/// The events that a failing seed prints.
pub const LAST_EVENTS: usize = 200;

/// What kind of thing happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A server's process: started, ended, refused to start.
    Process,
    /// Who leads, as a server sees it.
    Leader,
    /// A change of a Raft membership, of roots, issuers, tokens.
    State,
    /// An applied entry.
    Applied,
    /// What a disk did.
    Disk,
    /// A fault began.
    Fault,
    /// A fault ended.
    Heal,
    /// What a client asked, and what came of it.
    Client,
    /// A leaf that a client received.
    Issued,
    /// A handshake between two workloads.
    Handshake,
    /// A situation that a batch of seeds must hit.
    Mark,
    /// An invariant does not hold.
    Violation,
}

impl Kind {
    /// The kind's name, as it stands in a trace.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Leader => "leader",
            Self::State => "state",
            Self::Applied => "applied",
            Self::Disk => "disk",
            Self::Fault => "fault",
            Self::Heal => "heal",
            Self::Client => "client",
            Self::Issued => "issued",
            Self::Handshake => "handshake",
            Self::Mark => "mark",
            Self::Violation => "violation",
        }
    }
}

/// What a timeline draws of an event without reading its text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Detail {
    /// Nothing but the event.
    #[default]
    None,
    /// Where the subject's process is in its life from now on.
    Life(Life),
    /// What the subject is in consensus from now on.
    Role(Role, u64),
    /// A fault of this number begins.
    Began {
        /// Its number in the plan.
        number: usize,
        /// Its class.
        class: &'static str,
        /// The hosts that it hits.
        hosts: Vec<String>,
        /// The directions of links that it cuts.
        links: Vec<(String, String)>,
        /// Whether it lasts until its end is noted.
        lasts: bool,
    },
    /// The fault of this number ends.
    Ended(usize),
    /// Every fault ends.
    AllEnded,
    /// The subject applied this entry.
    Index(u64),
    /// What the subject tried was refused, or is unknown.
    Failed,
}

/// Where a process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It starts.
    Starting,
    /// It serves.
    Serving,
    /// It is gone.
    Gone,
    /// It has refused to start.
    Refused,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Event {
    /// Microseconds of simulated time.
    pub at: u64,
    /// The host that it happened on or to.
    pub subject: Arc<str>,
    /// What kind of thing it is.
    pub kind: Kind,
    /// What happened.
    pub text: String,
    /// What a timeline draws of it. It is no part of the digest: everything in it is in the text, too.
    #[serde(skip)]
    pub detail: Detail,
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (seconds, micros) = (self.at / 1_000_000, self.at % 1_000_000);
        write!(f, "{seconds:>5}.{micros:06} {:<10} {:<9} {}", self.subject, self.kind.name(), self.text)
    }
}

/// Which events are kept whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// The last [`LAST_EVENTS`].
    Last,
    /// All, for a replay or a timeline.
    All,
}

/// The events of a run.
pub struct Trace {
    keep: Keep,
    hash: Sha256,
    count: u64,
    kept: VecDeque<Event>,
}

impl Trace {
    /// An empty trace.
    pub fn new(keep: Keep) -> Self {
        Self { keep, hash: Sha256::new(), count: 0, kept: VecDeque::new() }
    }

    /// Adds an event.
    pub fn add(&mut self, event: Event) {
        self.hash.update(event.to_string().as_bytes());
        self.hash.update(b"\n");
        self.count += 1;
        if self.keep == Keep::Last && self.kept.len() == LAST_EVENTS {
            self.kept.pop_front();
        }
        self.kept.push_back(event);
    }

    /// How many events there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The digest of every event so far, in hexadecimal.
    pub fn digest(&self) -> String {
        self.hash.clone().finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// The events that are kept.
    pub fn kept(&self) -> impl DoubleEndedIterator<Item = &Event> + ExactSizeIterator {
        self.kept.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(at: u64, text: &str) -> Event {
        Event { at, subject: "dc1-a".into(), kind: Kind::Client, text: text.into(), detail: Detail::None }
    }

    #[test]
    fn the_digest_covers_every_event_also_those_that_are_not_kept() {
        let digest = |first: &str| {
            let mut trace = Trace::new(Keep::Last);
            trace.add(event(0, first));
            (0..1000).for_each(|at| trace.add(event(at, "same")));
            assert_eq!((trace.count(), trace.kept().len()), (1001, LAST_EVENTS));
            trace.digest()
        };
        assert_eq!(digest("one"), digest("one"));
        assert_ne!(digest("one"), digest("other"));
    }

    #[test]
    fn an_event_is_one_line_with_its_time() {
        assert_eq!(event(1_500_000, "asks").to_string(), "    1.500000 dc1-a      client    asks");
    }
}
