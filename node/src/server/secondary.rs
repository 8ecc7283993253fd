//! In a secondary: the leader's dealings with the primary, for as long as it leads.

use std::sync::Arc;

use carrack_authority::{WatchKey, id::Revision, plan::renew::LOOK_AGAIN};
use carrack_federation::{
    FromPrimary, Log,
    secondary::{SecondaryStatus, run},
};
use carrack_raft::{Leadership, Replica};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

/// Runs until `stopped` turns true. In the primary it has nothing to do.
pub(super) async fn follow_primary(
    replica: Replica,
    log: Arc<dyn Log>,
    primary: Arc<dyn FromPrimary>,
    status: watch::Sender<Option<SecondaryStatus>>,
    mut stopped: watch::Receiver<bool>,
) {
    let work = async {
        if !is_secondary(&replica).await {
            return;
        }
        loop {
            lead(&replica, Leadership::is_ready_leader).await;
            let shown = watch::Sender::new(SecondaryStatus::default());
            let mut seen = shown.subscribe();
            tokio::select! {
                () = run(log.clone(), primary.clone(), shown) => {}
                () = publish(&status, &mut seen) => {}
                () = lead(&replica, |leadership| !leadership.is_ready_leader()) => {}
            }
            // Another server leads and knows more.
            status.send_replace(None);
        }
    };
    tokio::select! {
        () = work => {}
        _ = stopped.wait_for(|stopped| *stopped) => {}
    }
}

/// Whether this datacenter is a secondary, once it has begun: it stays what it is.
async fn is_secondary(replica: &Replica) -> bool {
    loop {
        let state = &replica.state().state;
        if state.cluster().is_some() {
            return state.primary().is_some();
        }
        let deadline = Instant::now() + LOOK_AGAIN;
        if let Err(error) = replica.wait_for(WatchKey::Cluster, Revision(0), deadline).await {
            tracing::debug!(%error, "the datacenter's beginning is looked for again later");
            sleep_until(deadline).await;
        }
    }
}

async fn lead(replica: &Replica, is_so: impl FnMut(&Leadership) -> bool) {
    // The sender lives as long as the replica; when it is gone the stop signal ends this task.
    if replica.subscribe().wait_for(is_so).await.is_err() {
        std::future::pending::<()>().await;
    }
}

async fn publish(status: &watch::Sender<Option<SecondaryStatus>>, seen: &mut watch::Receiver<SecondaryStatus>) {
    loop {
        status.send_replace(Some(seen.borrow_and_update().clone()));
        if seen.changed().await.is_err() {
            return;
        }
    }
}
