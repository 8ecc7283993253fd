//! The loop that every reconciler and every task about this server's own certificates runs in: observe, decide, act, wait.
//!
//! A failure never ends the loop and never blocks leadership: it is kept in [`Troubles`] for `carrack status`, and tried again.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::WatchKey;
use carrack_raft::{AppliedState, Leadership, Replica};
use futures::future::{BoxFuture, FutureExt, select_all};
use tokio::{sync::watch, time::Instant};

/// The first pause after a failure; it doubles up to [`BACKOFF_MAX`].
const BACKOFF_MIN: Duration = Duration::from_millis(200);
/// The longest pause between two tries: an operator who mends the cause sees the effect soon.
const BACKOFF_MAX: Duration = Duration::from_secs(15);
/// How long an observation may take before it counts as failed.
const OBSERVE_WITHIN: Duration = Duration::from_secs(5);

/// What a step came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Something was done: observe again at once.
    Acted,
    /// Nothing is to be done before something changes or this time has passed.
    Idle(Duration),
}

/// Why a step failed, in words for the operator.
pub(crate) type StepError = Box<dyn std::error::Error + Send + Sync>;

/// Who runs it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Runs {
    /// The leader alone, on what it read linearizably.
    OnLeader,
    /// Every server, on its own applied state.
    Everywhere,
}

/// One thing that is kept true.
pub(crate) trait Task: Send + Sync + 'static {
    /// Its name in logs and in status.
    fn name(&self) -> &'static str;
    /// Who runs it.
    fn runs(&self) -> Runs;
    /// What it looks at.
    fn watches(&self) -> &'static [WatchKey];
    /// Decides on what was observed, and does at most one thing.
    fn step(&self, observed: Arc<AppliedState>) -> BoxFuture<'_, Result<Step, StepError>>;
}

/// What goes wrong now, by task.
#[derive(Clone, Debug, Default)]
pub struct Troubles(Arc<Mutex<BTreeMap<&'static str, String>>>);

impl Troubles {
    /// Every trouble, with its task.
    pub fn list(&self) -> Vec<(&'static str, String)> {
        self.lock().iter().map(|(task, text)| (*task, text.clone())).collect()
    }

    /// The trouble of one task.
    pub fn of(&self, task: &str) -> Option<String> {
        self.lock().get(task).cloned()
    }

    fn set(&self, task: &'static str, text: Option<String>) {
        match text {
            Some(text) => self.lock().insert(task, text),
            None => self.lock().remove(task),
        };
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<&'static str, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs a task until `stop` turns true.
pub(crate) async fn run(task: Arc<dyn Task>, replica: Replica, troubles: Troubles, mut stop: watch::Receiver<bool>) {
    let mut stopped = stop.clone();
    let work = async {
        loop {
            wait_for_turn(&*task, &replica).await;
            take_turn(&*task, &replica, &troubles).await;
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
    stop.mark_unchanged();
}

async fn wait_for_turn(task: &dyn Task, replica: &Replica) {
    if task.runs() == Runs::OnLeader {
        let mut status = replica.subscribe();
        // The sender lives as long as the replica; when it is gone the stop signal ends this task.
        if status.wait_for(Leadership::is_ready_leader).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// Steps until leadership is lost; a task that runs everywhere steps for ever.
async fn take_turn(task: &dyn Task, replica: &Replica, troubles: &Troubles) {
    let mut backoff = BACKOFF_MIN;
    while task.runs() == Runs::Everywhere || leads(replica) {
        let seen = replica.state();
        let result = match observe(task, replica).await {
            Ok(observed) => task.step(observed).await,
            Err(error) => Err(error),
        };
        let pause = match result {
            Ok(step) => {
                troubles.set(task.name(), None);
                backoff = BACKOFF_MIN;
                match step {
                    Step::Acted => continue,
                    Step::Idle(pause) => pause,
                }
            }
            Err(error) => {
                let text = chain_of(&*error);
                if troubles.of(task.name()).as_ref() != Some(&text) {
                    tracing::warn!(task = task.name(), error = %text, "a task failed and is tried again");
                }
                troubles.set(task.name(), Some(text));
                let pause = backoff;
                backoff = (backoff * 2).min(BACKOFF_MAX);
                tokio::time::sleep(pause).await;
                continue;
            }
        };
        wait_for_change(task, replica, &seen, pause).await;
    }
    if task.runs() == Runs::OnLeader {
        troubles.set(task.name(), None);
    }
}

fn leads(replica: &Replica) -> bool {
    replica.subscribe().borrow().is_ready_leader()
}

async fn observe(task: &dyn Task, replica: &Replica) -> Result<Arc<AppliedState>, StepError> {
    match task.runs() {
        Runs::OnLeader => Ok(replica.read_linearizable(Instant::now() + OBSERVE_WITHIN).await?),
        Runs::Everywhere => Ok(replica.state()),
    }
}

async fn wait_for_change(task: &dyn Task, replica: &Replica, seen: &AppliedState, pause: Duration) {
    let deadline = Instant::now() + pause;
    let changes = task.watches().iter().map(|key| {
        let after = seen.state.modified(key);
        async move {
            if replica.wait_for(*key, after, deadline).await.is_err() {
                // Too many wait already: it is looked again in time.
                tokio::time::sleep_until(deadline).await;
            }
        }
        .boxed()
    });
    let mut waits: Vec<BoxFuture<'_, ()>> = changes.collect();
    waits.push(tokio::time::sleep_until(deadline).boxed());
    if task.runs() == Runs::OnLeader {
        let mut status = replica.subscribe();
        waits.push(async move { drop(status.wait_for(|status| !status.is_ready_leader()).await) }.boxed());
    }
    select_all(waits).await;
}

/// An error with everything that it was caused by, on one line. A cause that the error has said already is not repeated.
pub(crate) fn chain_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}
