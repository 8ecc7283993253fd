//! What goes wrong, when, and for how long. The whole plan is drawn from the seed before the run, so that a part of it can be
//! replayed; whom a fault hits is decided when it begins.

mod agents;
mod draw;
mod halts;
mod inject;
mod links;
mod rotations;
mod year;

use std::time::Duration;

use carrack_authority::Command;
use serde::{Deserialize, Serialize};

pub use self::{agents::AgentFault, draw::plan, inject::Injector, year::plan as plan_of_year};

/// A fault in its place.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Planned {
    /// Its number in the plan of its seed.
    pub number: usize,
    /// When it begins, after the datacenter has formed.
    pub at: Duration,
    /// How long it lasts.
    pub lasts: Duration,
    /// The number of the datacenter that it happens in; one that befalls all of them has the first's.
    #[serde(default)]
    pub datacenter: usize,
    /// What it is.
    pub fault: Fault,
}

/// Whom a fault hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Target {
    /// The server that leads; of two, the one of the older term.
    Leader,
    /// A server that follows, counted among those.
    Follower(usize),
    /// A server, counted among those that belong to the datacenter.
    Any(usize),
}

/// Which way nothing comes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Way {
    /// To the datacenter.
    In,
    /// From the datacenter.
    Out,
    /// Both ways.
    Both,
}

/// A fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fault {
    /// A group of servers and the others do not reach each other.
    Partition(Vec<Target>),
    /// A server and the others reach each other for a moment and do not for the next, so many times.
    Flap(Target, u32),
    /// Nothing that one server sends reaches another.
    OneWay(Target, Target),
    /// The leader reaches one follower alone.
    LeaderInMinority(Target),
    /// Each server reaches its two neighbours alone.
    Ring,
    /// A datacenter and the others do not reach each other, this way.
    Wan(Way),
    /// Every message may be lost, this many in ten thousand.
    Loss(u32),
    /// Messages take up to this many times as long.
    Delay(u32),
    /// Everything that a server sends and is sent is held back, and delivered at the end: a machine that stalls.
    Stall(Target),
    /// A server's process is killed, and started again at the end.
    Kill(Target),
    /// A server's process is killed as soon as it is up, until the end.
    CrashLoop(Target),
    /// The leader's process is killed as soon as it has applied an entry of this kind.
    Trap(Step),
    /// The process of every server of the datacenter is killed.
    KillAll,
    /// A server is stopped cleanly, and started again at the end.
    Stop(Target),
    /// Every server everywhere is stopped for so long that this much time passes.
    Sleep(Duration),
    /// A write of a server's disk fails.
    DiskError(Target, DiskTrouble),
    /// A server's process is killed, and this is what it finds of its disk.
    DiskDamage(Target, Damage),
    /// Syncs of a server take many times as long.
    SlowDisk(Target),
    /// A server's clock is moved by so many milliseconds, and back at the end.
    ClockStep(Target, i64),
    /// A server's clock runs too fast by so many parts in a million.
    ClockDrift(Target, i64),
    /// The keys of a server sign nothing.
    SignerFails(Target),
    /// The operator does something.
    Operator(Action),
    /// Something befalls the agent with this number.
    Agent(usize, AgentFault),
}

/// A persisted step of a plan, after which a leader may fall.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Step {
    /// A server was admitted.
    Admitted,
    /// A server asked for an issuer.
    IssuerRequested,
    /// An issuer was recorded.
    IssuerRecorded,
    /// A sealed key got other slots.
    Resealed,
    /// A server asked for a server certificate.
    CertificateRequested,
    /// A server certificate was recorded.
    CertificateRecorded,
    /// A removal was asked for.
    RemovalRequested,
    /// A server was removed.
    Removed,
    /// A leaf was recorded.
    LeafRecorded,
    /// The primary has recorded an issuer of another datacenter.
    RemoteIssuerRecorded,
    /// A secondary has taken over something of the primary.
    Followed,
    /// A rotation has begun.
    RotationBegun,
    /// Its root is in the bundle.
    RootPublished,
    /// Its root has a bridge.
    RootBridged,
    /// Its root is active.
    RootActivated,
    /// A secondary has followed that.
    ActivationFollowed,
    /// It is over.
    RotationFinished,
    /// It is taken back.
    RolledBack,
    /// A retired root has left the bundle.
    RootPruned,
}

impl Step {
    /// Every step.
    pub const ALL: &'static [Self] = &[
        Self::Admitted,
        Self::IssuerRequested,
        Self::IssuerRecorded,
        Self::Resealed,
        Self::CertificateRequested,
        Self::CertificateRecorded,
        Self::RemovalRequested,
        Self::Removed,
        Self::LeafRecorded,
        Self::RemoteIssuerRecorded,
        Self::Followed,
    ];

    /// Those of a rotation.
    pub const OF_ROTATIONS: [Self; 8] = [
        Self::RotationBegun,
        Self::RootPublished,
        Self::RootBridged,
        Self::RootActivated,
        Self::ActivationFollowed,
        Self::RotationFinished,
        Self::RolledBack,
        Self::RootPruned,
    ];

    /// The step that a command is, if it is one.
    pub const fn of(command: &Command) -> Option<Self> {
        match command {
            Command::AdmitServer(_) => Some(Self::Admitted),
            Command::RequestIssuer(_) => Some(Self::IssuerRequested),
            Command::RecordIssuer(_) => Some(Self::IssuerRecorded),
            Command::ResealRoot { .. } => Some(Self::Resealed),
            Command::RequestServerCertificate { .. } => Some(Self::CertificateRequested),
            Command::RecordServerCertificate { .. } => Some(Self::CertificateRecorded),
            Command::RequestRemoval { .. } => Some(Self::RemovalRequested),
            Command::RemoveServer { .. } => Some(Self::Removed),
            Command::RecordIssuance(_) => Some(Self::LeafRecorded),
            Command::RecordRemoteIssuer(_) => Some(Self::RemoteIssuerRecorded),
            Command::FollowPrimary(_) => Some(Self::Followed),
            Command::StartRotation(_) => Some(Self::RotationBegun),
            Command::PublishRotationRoot { .. } => Some(Self::RootPublished),
            Command::BridgeRoot { .. } => Some(Self::RootBridged),
            Command::ActivateRoot { .. } => Some(Self::RootActivated),
            Command::FollowActivation { .. } => Some(Self::ActivationFollowed),
            Command::FinishRotation { .. } => Some(Self::RotationFinished),
            Command::RollBack { .. } => Some(Self::RolledBack),
            Command::PruneRoot { .. } => Some(Self::RootPruned),
            _ => None,
        }
    }
}

/// What fails on a disk that is in use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskTrouble {
    /// A sync.
    Sync,
    /// A write.
    Write,
    /// There is no room.
    Full,
    /// A file beside the log.
    File,
    /// A read.
    Read,
}

/// What a disk lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Damage {
    /// A bit of an entry.
    FlippedBit,
    /// An entry that lies at another's place.
    MisdirectedWrite,
    /// An entry that was never written.
    LostWrite,
    /// The last entries.
    CutTail(u64),
    /// The high-water file.
    HighWater,
    /// A bit of the high-water file.
    HighWaterBit,
    /// A bit of the newest snapshot.
    SnapshotBit,
    /// The newest snapshot: an older one is in its place.
    OldSnapshot,
    /// Everything.
    All,
}

/// What an operator does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Adds a server.
    AddServer,
    /// Removes a server.
    RemoveServer(Target),
    /// Hands leadership over.
    Transfer(usize),
    /// Makes every server take a snapshot.
    Snapshot,
    /// Halts issuing until the end of the fault.
    Halt,
    /// Sets the rate of CSRs until the end of the fault.
    LimitRate(u32),
    /// Sets the longest life of leaves, in hours, until the end of the fault.
    LeafHours(u32),
    /// So many requests for leaves at once.
    Herd(u32),
    /// Rotates the root to another one with a key of this kind.
    Rotate(RotatedKey),
    /// The same, to one that the former root signs no bridge to.
    RotateWithoutBridge(RotatedKey),
    /// The same, to one of the other CA provider.
    RotateToOtherProvider(RotatedKey),
    /// Takes the rotation under way back, or the last one.
    RollBack,
}

/// The kind of a new root's key. None of RSA: those keys come from a pool of two, and no root has another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RotatedKey {
    /// `ec-p256`
    P256,
    /// `ec-p384`
    P384,
    /// `ed25519`
    Ed25519,
}

impl RotatedKey {
    /// Every one.
    pub const ALL: [Self; 3] = [Self::P256, Self::P384, Self::Ed25519];

    /// As clients write it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "ec-p256",
            Self::P384 => "ec-p384",
            Self::Ed25519 => "ed25519",
        }
    }

    /// As `PrivateKeyType` and `PrivateKeyBits`.
    pub const fn in_consuls_words(self) -> (&'static str, u32) {
        match self {
            Self::P256 => ("ec", 256),
            Self::P384 => ("ec", 384),
            Self::Ed25519 => ("ed25519", 256),
        }
    }
}

impl Fault {
    /// The class that a report counts it in.
    pub fn class(&self) -> &'static str {
        match self {
            Self::Partition(_) => "partition",
            Self::Flap(..) => "flapping link",
            Self::OneWay(..) => "one-way partition",
            Self::LeaderInMinority(_) => "leader in a minority",
            Self::Ring => "ring",
            Self::Wan(_) => "WAN cut",
            Self::Loss(_) => "loss",
            Self::Delay(_) => "delay",
            Self::Stall(_) => "stall",
            Self::Kill(_) => "kill",
            Self::CrashLoop(_) => "crash loop",
            Self::Trap(_) => "kill after a step",
            Self::KillAll => "kill all",
            Self::Stop(_) => "stop",
            Self::Sleep(_) => "sleep",
            Self::DiskError(..) => "disk error",
            Self::DiskDamage(..) => "disk damage",
            Self::SlowDisk(_) => "slow disk",
            Self::ClockStep(..) => "clock step",
            Self::ClockDrift(..) => "clock drift",
            Self::SignerFails(_) => "signer fails",
            Self::Operator(Action::AddServer | Action::RemoveServer(_)) => "membership",
            Self::Operator(Action::Transfer(_)) => "leadership transfer",
            Self::Operator(Action::Snapshot) => "snapshot",
            Self::Operator(Action::Halt) => "halt",
            Self::Operator(Action::LimitRate(_)) => "rate limit",
            Self::Operator(Action::LeafHours(_)) => "shorter leaves",
            Self::Operator(Action::Herd(_)) => "herd",
            Self::Operator(Action::Rotate(_)) => "rotation",
            Self::Operator(Action::RotateWithoutBridge(_)) => "rotation without a bridge",
            Self::Operator(Action::RotateToOtherProvider(_)) => "change of the provider",
            Self::Operator(Action::RollBack) => "roll back",
            Self::Agent(_, fault) => fault.class(),
        }
    }
}
