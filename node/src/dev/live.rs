//! What `carrack dev` shows during a rotation: its phase, the handshakes of the sample services, and what is left under the former root.

use std::{io::Write, sync::Arc, time::Duration};

use carrack_authority::spiffe::Name;
use tokio::time::{Instant, sleep};

use super::{
    CALLER, DevError, Progress, SERVICE,
    formation::{Datacenter, LOOK},
    place::Dev,
};
use crate::{
    cli::{
        client::Client,
        rotation::{CaStatus, Rotation, fetch_of_primary},
        rotation_watch::{left_lines, progress},
    },
    probe::{Prober, Seen, Target, View},
    server::ports::MachineClock,
};

/// Between two reports of one phase: what is counted in it changes all the time.
const REPORT_EVERY: Duration = Duration::from_secs(1);

impl Dev {
    /// The sample services: the one of the first datacenter, and its caller in each other one.
    pub(super) fn targets(&self) -> Vec<Target> {
        let target = |service: &str, position: u8| {
            let service = Name::parse("service", service).expect("the names are in the grammar");
            Target::new(service, self.agent_address(position))
        };
        let last = self.options.datacenters - 1;
        let callers = (last.min(1)..=last).map(|position| target(CALLER, position));
        std::iter::once(target(SERVICE, 0)).chain(callers).collect()
    }

    /// Lets the sample services connect to each other.
    pub(super) fn prober(&self, token: &str) -> Result<Prober, DevError> {
        let client = self.client(0, Some(token))?;
        let with_client = |target: Target| Ok((target.clone(), client.at(target.agent().to_owned())?));
        let workloads = self.targets().into_iter().map(with_client).collect::<Result<_, DevError>>()?;
        let prober = Prober::start(workloads, Arc::new(MachineClock));
        prober.set_quiet(true);
        Ok(prober)
    }

    /// Shows each rotation, from its beginning until the former root has drained. Without end.
    pub(super) async fn live(
        &self,
        primary: &Datacenter,
        prober: &Prober,
        token: &str,
        steps: &mut dyn Progress,
        output: &mut (dyn Write + Send),
    ) -> Result<(), DevError> {
        let client = self.client(0, Some(token))?;
        // What was under way at the last stop goes on.
        let mut live = Live::begin(prober, false);
        loop {
            let lines = live.look(&client, prober).await;
            if !lines.is_empty() {
                let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
                // Where nobody reads any more, the datacenters run on.
                steps.aside(&mut || drop(output.write_all(text.as_bytes()).and_then(|()| output.flush())));
            }
            prober.set_quiet(live.is_over);
            if live.is_over {
                while numbers(primary) == live.numbers {
                    sleep(LOOK).await;
                }
                live = Live::begin(prober, true);
            }
            sleep(LOOK).await;
        }
    }
}

/// The numbers of the rotation under way and of the last one.
type Numbers = (Option<u64>, Option<u64>);

/// As the server has them that is asked for the status, too.
fn numbers(primary: &Datacenter) -> Numbers {
    let state = primary.servers[0].context().replica.state();
    (state.state.rotation().map(|it| it.id.0), state.state.last_rotation().map(|it| it.rotation.id.0))
}

/// What was shown of one rotation.
struct Live {
    view: View,
    /// Whether there is something to show, even if it is over already.
    is_shown: bool,
    phase: Option<String>,
    shown: Vec<String>,
    reported_at: Instant,
    is_over: bool,
    numbers: Numbers,
}

impl Live {
    fn begin(prober: &Prober, is_shown: bool) -> Self {
        Self {
            view: View::since(&prober.seen()),
            is_shown,
            phase: None,
            shown: Vec::new(),
            reported_at: Instant::now(),
            is_over: false,
            numbers: (None, None),
        }
    }

    async fn look(&mut self, client: &Client, prober: &Prober) -> Vec<String> {
        // A leader that falls is one of the things that are looked at here.
        let Ok((status, _)) = fetch_of_primary(client).await else { return Vec::new() };
        self.report(&status, &prober.seen(), Instant::now())
    }

    /// The lines to show now: at once when the phase is another one, else at most once a second.
    fn report(&mut self, status: &CaStatus, seen: &Seen, now: Instant) -> Vec<String> {
        let look = self.view.look(seen, now);
        let number = |rotation: &Option<Rotation>| rotation.as_ref().map(|rotation| rotation.id);
        self.numbers = (number(&status.rotation), number(&status.last_rotation));
        self.is_over = status.is_over();
        self.is_shown |= !self.is_over;
        if !self.is_shown {
            return Vec::new();
        }
        let mut lines = look.news.clone();
        let phase = match &status.rotation {
            Some(rotation) => format!("{} {}", rotation.id, rotation.phase),
            None if self.is_over => "over".to_owned(),
            None => "draining".to_owned(),
        };
        let state: Vec<String> = [progress(status, 0.0)].into_iter().chain(left_lines(status)).collect();
        let is_due = state != self.shown && now.duration_since(self.reported_at) >= REPORT_EVERY;
        if is_due || self.phase.as_ref() != Some(&phase) {
            let (first, left) = state.split_at(1);
            lines.push(format!("{}; {}", first[0], look.line()));
            lines.extend(left.iter().map(|line| format!("  {line}")));
            if self.is_over {
                lines.extend(self.view.summary(seen).into_iter().skip(1));
            }
            (self.phase, self.shown, self.reported_at) = (Some(phase), state, now);
        }
        lines
    }
}
