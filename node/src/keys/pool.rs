//! Runs cryptographic work off the async threads: a bounded queue in front of a few named threads. What does not fit is
//! refused at once, so that a herd of requests costs memory and latency that are known.

mod threads;

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::Arc,
};

use tokio::sync::oneshot;

pub use threads::SigningThreads;

/// The most jobs that wait: at 13,000 certificates a second and core (verify a CSR, sign a leaf), a third of a second of
/// work for one core. A client that would wait longer is told to come back.
pub const SIGNING_QUEUE_MAX: usize = 4096;

/// A unit of work.
pub type Job = Box<dyn FnOnce() + Send>;

/// Why work was not done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PoolError {
    /// The queue is full: HTTP 429, gRPC `RESOURCE_EXHAUSTED`.
    #[error("{jobs} signing jobs are waiting, which is as many as may: try again later")]
    Overloaded {
        /// How many wait.
        jobs: usize,
    },
    /// The pool was stopped before the work was done.
    #[error("the server is stopping: nothing more is signed")]
    Stopped,
}

/// Takes jobs. Real servers have [`SigningThreads`]; the simulator runs each at once, in [`Inline`].
pub trait Executor: Send + Sync {
    /// Takes a job, or refuses it at once. Never blocks. A job that is dropped unrun tells its caller that it was.
    fn execute(&self, job: Job) -> Result<(), PoolError>;

    /// How many jobs wait now.
    fn waiting(&self) -> usize;
}

/// Runs each job at once on the caller's thread: for the simulator and tests.
#[derive(Clone, Copy, Debug, Default)]
pub struct Inline;

impl Executor for Inline {
    fn execute(&self, job: Job) -> Result<(), PoolError> {
        job();
        Ok(())
    }

    fn waiting(&self) -> usize {
        0
    }
}

/// Where signing and verifying is done.
#[derive(Clone)]
pub struct SigningPool {
    executor: Arc<dyn Executor>,
}

impl SigningPool {
    /// The pool that runs its work on `executor`.
    pub fn new(executor: Arc<dyn Executor>) -> Self {
        Self { executor }
    }

    /// Runs `work` and answers its value. A caller that goes away before the work began saves the work; a panic in it is
    /// the caller's panic.
    pub async fn run<T, F>(&self, work: F) -> Result<T, PoolError>
    where
        T: Send + 'static,
        F: FnOnce() -> T + Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        self.executor.execute(Box::new(move || {
            if !sender.is_closed() {
                // An error here means that the caller has gone since: nobody is left to be told.
                drop(sender.send(catch_unwind(AssertUnwindSafe(work))));
            }
        }))?;
        match receiver.await {
            Ok(Ok(value)) => Ok(value),
            Ok(Err(panic)) => resume_unwind(panic),
            Err(_) => Err(PoolError::Stopped),
        }
    }

    /// How many jobs wait now.
    pub fn waiting(&self) -> usize {
        self.executor.waiting()
    }
}

impl fmt::Debug for SigningPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningPool({} waiting)", self.waiting())
    }
}

#[cfg(test)]
mod tests;
