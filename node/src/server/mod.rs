//! One server: how it starts, what runs in it, how it stops. Every part is put together here, and only here.

pub(crate) mod admission;
pub mod begin;
pub mod context;
pub mod desk;
pub mod join;
pub mod join_token;
mod listeners;
mod observe;
pub mod own_issuer;
pub mod own_record;
mod peers;
pub mod ports;
mod start;
pub mod task;
pub(crate) mod transport;

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

/// A running server.
pub struct Server {
    context: Arc<Context>,
    config: Config,
    stop: watch::Sender<bool>,
    tasks: Mutex<JoinSet<()>>,
    /// Held for its lock.
    _data: Arc<DataDirectory>,
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

    /// Stops listening, lets what is under way end, and closes the store cleanly.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        let mut tasks = std::mem::take(&mut *self.tasks.lock().unwrap_or_else(PoisonError::into_inner));
        let ended = tokio::time::timeout(STOP_WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
        if ended.is_err() {
            tracing::warn!("some tasks did not end within {} s and are cut off", STOP_WITHIN.as_secs());
            tasks.shutdown().await;
        }
        self.context.replica.shutdown().await;
    }
}
