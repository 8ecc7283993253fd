//! What a server needs from the machine. The simulator has its own of each.

use std::sync::Arc;

use aws_lc_rs::rand::{SecureRandom, SystemRandom};
use carrack_authority::time::Timestamp;
use carrack_raft::ports::{ApplyObserver, Entropy, Fatal, NamedThreads, WallClock, Workers, exit_process};

use crate::{
    data_directory::{LocalDirectory, OpenPlace, Place},
    keys::{
        aws_lc::AwsLcKeyMaker,
        pool::{Executor, SigningThreads},
        sealing::{AgeSealer, Sealer},
        secret::KeyMaker,
    },
    network::{Network, Tcp},
    provider::CaProvider,
    tls::tap::Taps,
};

/// The ports of one server.
#[derive(Clone)]
pub struct ServerPorts {
    /// The machine's clock.
    pub wall_clock: Arc<dyn WallClock>,
    /// Random bytes.
    pub entropy: Arc<dyn Entropy>,
    /// Makes private keys.
    pub key_maker: Arc<dyn KeyMaker>,
    /// Seals root keys.
    pub sealer: Arc<dyn Sealer>,
    /// Where signing is done.
    pub executor: Arc<dyn Executor>,
    /// CA providers beside `builtin`.
    pub providers: Vec<Arc<dyn CaProvider>>,
    /// Connections.
    pub network: Arc<dyn Network>,
    /// Where the server keeps everything.
    pub place: OpenPlace,
    /// Work with files beside the async tasks.
    pub workers: Arc<dyn Workers>,
    /// Who looks on when entries are applied.
    pub observer: Option<Arc<dyn ApplyObserver>>,
    /// Who looks on at what is said to other servers.
    pub taps: Option<Taps>,
    /// What happens when the store cannot be trusted any more.
    pub fatal: Fatal,
}

impl ServerPorts {
    /// Those of a real machine.
    pub fn of_machine() -> std::io::Result<Self> {
        Ok(Self {
            wall_clock: Arc::new(MachineClock),
            entropy: Arc::new(MachineEntropy),
            key_maker: Arc::new(AwsLcKeyMaker),
            sealer: Arc::new(AgeSealer),
            executor: Arc::new(SigningThreads::start_default()?),
            providers: Vec::new(),
            network: Arc::new(Tcp),
            place: Arc::new(|path| Ok(Arc::new(LocalDirectory::open(path)?) as Arc<dyn Place>)),
            workers: Arc::new(NamedThreads),
            observer: None,
            taps: None,
            fatal: exit_process(),
        })
    }
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineClock;

impl WallClock for MachineClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock port's adapter")]
    fn now(&self) -> Timestamp {
        let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        Timestamp::EPOCH.plus(since_epoch)
    }
}

/// The machine's random bytes.
#[derive(Clone, Copy, Debug, Default)]
pub struct MachineEntropy;

impl Entropy for MachineEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        SystemRandom::new().fill(bytes).expect("the operating system gives random bytes, or nothing here is safe");
    }
}
