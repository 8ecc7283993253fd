//! One server: how it starts, what runs in it, how it stops. Every part is put together here, and only here.

mod acknowledge;
pub(crate) mod admission;
pub mod agent_token;
pub mod agents;
pub mod begin;
pub mod context;
pub mod datacenters;
pub mod desk;
pub mod federation_token;
pub(crate) mod grpc_client;
pub mod join;
pub mod join_primary;
pub mod join_token;
mod listeners;
pub(crate) mod observe;
pub mod own_issuer;
pub mod own_record;
mod peers;
pub mod ports;
pub(crate) mod presence;
mod secondary;
mod start;
pub mod task;
pub mod token_text;
pub mod topics;
pub(crate) mod transport;
pub(crate) mod wan;

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{sync::watch, task::JoinSet};

use self::context::Context;
pub use self::{
    ports::ServerPorts,
    start::{Start, StartError},
};
use crate::{config::Config, data_directory::DataDirectory};

/// How long a command of this server's own tasks may take to commit.
pub const PROPOSE_WITHIN: Duration = Duration::from_secs(10);
/// How long the tasks of a stopping server may take to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);
/// How long the Raft port may take to end when nothing is behind it any more.
const RAFT_PORT_WITHIN: Duration = Duration::from_secs(2);

/// A running server.
pub struct Server {
    context: Arc<Context>,
    config: Config,
    stop: Stop,
    tasks: Mutex<Tasks>,
    /// Held for its lock.
    _data: Arc<DataDirectory>,
}

/// Tells the tasks that they end.
struct Stop {
    all_but_raft: watch::Sender<bool>,
    raft_port: watch::Sender<bool>,
}

/// What runs in a server.
#[derive(Default)]
struct Tasks {
    all_but_raft: JoinSet<()>,
    raft_port: JoinSet<()>,
}

impl Server {
    /// Starts a server, and answers when it listens. It issues as soon as the datacenter has a leader and it has an issuer.
    pub async fn start(config: Config, start: Start, ports: ServerPorts) -> Result<Self, StartError> {
        start::start(config, start, ports).await
    }

    /// What its edges share.
    pub fn context(&self) -> &Arc<Context> {
        &self.context
    }

    /// Its configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Stops listening to clients, lets what is under way end with Raft still there to decide it, and closes the store cleanly.
    pub async fn stop(self) {
        let Tasks { all_but_raft, raft_port } =
            std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        self.stop.all_but_raft.send_replace(true);
        end("some tasks", all_but_raft, STOP_WITHIN).await;
        self.stop.raft_port.send_replace(true);
        // The other servers' streams of entries last as long as the replica does.
        self.context.replica.shutdown().await;
        end("the connections of the Raft port", raft_port, RAFT_PORT_WITHIN).await;
    }
}

async fn end(what: &str, mut tasks: JoinSet<()>, within: Duration) {
    if tokio::time::timeout(within, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!("{what} did not end within {} s and are cut off", within.as_secs());
        tasks.shutdown().await;
    }
}
