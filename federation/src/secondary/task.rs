//! Drives the machine while its server leads: streams, requests and proposals run side by side, and what they come to is its input.

use std::{
    collections::BTreeMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use carrack_authority::{
    Command, State, WatchKey,
    federation::{Cursor, Datacenter, Table},
    id::{NodeId, Revision},
    plan::renew::LOOK_AGAIN,
    root::Ca,
};
use futures::StreamExt;
use tokio::{
    sync::{mpsc, watch},
    task::{AbortHandle, JoinSet},
    time::Instant,
};

use super::{
    machine::{Action, Input, Machine, Verdict},
    status::SecondaryStatus,
};
use crate::ports::{Following, FromPrimary, IssuerAsked, Log, WanError};

/// How long a command may take to commit.
const PROPOSE_WITHIN: Duration = Duration::from_secs(10);
/// Inputs that wait: a stream has one at most, and a server one request.
const INPUTS_MAX: usize = 64;

/// What the machine looks at, beside its inputs.
const WATCHED: [WatchKey; 7] = [
    WatchKey::Issuers,
    WatchKey::Datacenters,
    WatchKey::Members,
    WatchKey::Roots(Ca::Server),
    WatchKey::Roots(Ca::Mesh),
    WatchKey::Acknowledgements,
    WatchKey::Cluster,
];

/// Runs a secondary's dealings with the primary until the future is dropped: when leadership is lost.
pub async fn run(log: Arc<dyn Log>, primary: Arc<dyn FromPrimary>, status: watch::Sender<SecondaryStatus>) {
    let (inputs, mut received) = mpsc::channel(INPUTS_MAX);
    let mut driver =
        Driver { log: log.clone(), primary, inputs, work: JoinSet::new(), streams: BTreeMap::new(), next_stream: 0 };
    let mut machine = Machine::default();
    loop {
        let state = log.state();
        machine.see_absent(log.absent());
        let verdict = machine.look(&state, Instant::now());
        let mut wake_at = driver.perform(&state, verdict);
        publish(&status, &machine);
        loop {
            let deadline = wake_at.unwrap_or_else(|| Instant::now() + LOOK_AGAIN);
            let seen = WATCHED.iter().map(|key| (*key, state.modified(key))).collect();
            tokio::select! {
                Some(input) = received.recv() => {
                    let Some(input) = driver.current(input) else { continue };
                    let state = log.state();
                    machine.see_absent(log.absent());
                    let verdict = machine.take(&state, log.log_time(), Instant::now(), input);
                    wake_at = driver.perform(&state, verdict);
                    publish(&status, &machine);
                }
                () = log.changed(seen, deadline) => break,
                // What has ended is not kept.
                Some(_) = driver.work.join_next() => {}
            }
        }
    }
}

fn publish(status: &watch::Sender<SecondaryStatus>, machine: &Machine) {
    status.send_if_modified(|shown| {
        let is_new = shown != machine.status();
        if is_new {
            shown.clone_from(machine.status());
        }
        is_new
    });
}

/// An input, and the stream that it comes from if it comes from one.
struct Arrived {
    input: Input,
    stream: Option<(Table, u64)>,
}

struct OpenStream {
    number: u64,
    /// Lets the reader take its next item.
    proceed: mpsc::Sender<()>,
    reader: AbortHandle,
    /// The server that it is read from, once it is open.
    server: Arc<OnceLock<String>>,
}

struct Driver {
    log: Arc<dyn Log>,
    primary: Arc<dyn FromPrimary>,
    inputs: mpsc::Sender<Arrived>,
    work: JoinSet<()>,
    streams: BTreeMap<Table, OpenStream>,
    next_stream: u64,
}

impl Driver {
    /// The input, unless it comes from a stream that was closed meanwhile.
    fn current(&self, arrived: Arrived) -> Option<Input> {
        let is_current = arrived
            .stream
            .is_none_or(|(table, number)| self.streams.get(&table).is_some_and(|stream| stream.number == number));
        is_current.then_some(arrived.input)
    }

    fn perform(&mut self, state: &State, verdict: Verdict) -> Option<Instant> {
        for action in verdict.actions {
            match action {
                Action::Open(table) => self.open(state, table),
                Action::Close(table) => self.close(table),
                Action::Distrust(table) => self.distrust(state, table),
                Action::Continue(table) => self.proceed(table),
                Action::Follow(table, command) => self.follow(table, command),
                Action::Sign(revision, asked) => self.sign(state, revision, asked),
                Action::Record(node, command) => self.record(node, command),
                Action::Announce(told) => {
                    let Some(known) = known_primary(state) else { continue };
                    let primary = self.primary.clone();
                    self.spawn(None, async move {
                        let result = primary.announce(&known, told.clone()).await;
                        Input::Announced(told, result)
                    });
                }
                Action::Stand(standing) => {
                    let Some(known) = known_primary(state) else { continue };
                    let primary = self.primary.clone();
                    self.spawn(None, async move {
                        let result = primary.stand(&known, standing.clone()).await;
                        Input::Stood(standing, result)
                    });
                }
            }
        }
        verdict.wake_at
    }

    fn spawn(&mut self, stream: Option<(Table, u64)>, work: impl Future<Output = Input> + Send + 'static) {
        let inputs = self.inputs.clone();
        self.work.spawn(async move {
            let input = work.await;
            // The machine is gone when leadership is lost: nobody wants to know any more.
            drop(inputs.send(Arrived { input, stream }).await);
        });
    }

    fn open(&mut self, state: &State, table: Table) {
        self.close(table);
        let Some(known) = known_primary(state) else { return };
        self.next_stream += 1;
        let (number, from) = (self.next_stream, state.progress(table).cursor);
        let (proceed, proceeds) = mpsc::channel(1);
        let server = Arc::new(OnceLock::new());
        let reader = Reader { table, number, inputs: self.inputs.clone(), proceeds, server: server.clone() };
        let primary = self.primary.clone();
        let reader = self.work.spawn(async move { reader.read(&*primary, &known, from).await });
        self.streams.insert(table, OpenStream { number, proceed, reader, server });
    }

    fn distrust(&self, state: &State, table: Table) {
        let server = self.streams.get(&table).and_then(|stream| stream.server.get());
        // One that has not even opened the stream is left by whoever waits for that.
        if let (Some(known), Some(server)) = (known_primary(state), server) {
            self.primary.distrust(&known, server);
        }
    }

    fn close(&mut self, table: Table) {
        if let Some(stream) = self.streams.remove(&table) {
            stream.reader.abort();
        }
    }

    fn proceed(&mut self, table: Table) {
        if let Some(stream) = self.streams.get(&table)
            && stream.proceed.try_send(()).is_err()
        {
            tracing::debug!(%table, "the stream has ended; its reader says so by an input of its own");
        }
    }

    fn follow(&mut self, table: Table, command: Command) {
        let (log, number) = (self.log.clone(), self.streams.get(&table).map(|stream| (table, stream.number)));
        self.spawn(number, async move { Input::Followed(table, propose(&*log, command).await) });
    }

    fn record(&mut self, node: NodeId, command: Command) {
        let log = self.log.clone();
        self.spawn(None, async move { Input::Recorded(node, propose(&*log, command).await) });
    }

    fn sign(&mut self, state: &State, revision: Revision, asked: IssuerAsked) {
        let Some(known) = known_primary(state) else { return };
        let (primary, node) = (self.primary.clone(), asked.node);
        self.spawn(None, async move {
            let result = primary.sign_issuer(&known, asked).await;
            Input::Signed(node, revision, result)
        });
    }
}

fn known_primary(state: &State) -> Option<Datacenter> {
    state.datacenter(state.primary()?).map(|primary| Datacenter::clone(primary))
}

async fn propose(log: &dyn Log, command: Command) -> Result<(), String> {
    let outcome = log.propose(command, PROPOSE_WITHIN).await.map_err(|error| error.to_string())?;
    outcome.accepted().map(drop).map_err(|rejection| rejection.to_string())
}

struct Reader {
    table: Table,
    number: u64,
    inputs: mpsc::Sender<Arrived>,
    proceeds: mpsc::Receiver<()>,
    server: Arc<OnceLock<String>>,
}

impl Reader {
    async fn read(mut self, primary: &dyn FromPrimary, known: &Datacenter, from: Cursor) {
        let reason = match self.items(primary, known, from).await {
            Ok(()) => "the primary ended the stream".to_owned(),
            Err(error) => error.to_string(),
        };
        self.send(Input::Ended(self.table, reason)).await;
    }

    async fn items(&mut self, primary: &dyn FromPrimary, known: &Datacenter, from: Cursor) -> Result<(), WanError> {
        let Following { server, mut heard } = primary.follow(known, self.table, from).await?;
        self.server.get_or_init(|| server);
        while let Some(heard) = heard.next().await {
            self.send(Input::Heard(self.table, heard?)).await;
            if self.proceeds.recv().await.is_none() {
                return Ok(());
            }
        }
        Ok(())
    }

    async fn send(&self, input: Input) {
        let stream = Some((self.table, self.number));
        // The machine is gone when leadership is lost: nobody wants to know any more.
        drop(self.inputs.send(Arrived { input, stream }).await);
    }
}
