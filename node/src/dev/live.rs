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
        let mut live = Live::begin(&prober.seen(), false);
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
                live = Live::begin(&prober.seen(), true);
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
    fn begin(seen: &Seen, is_shown: bool) -> Self {
        Self {
            view: View::since(seen),
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn status(rotation: Value, last: Value, retired: u64) -> CaStatus {
        let leaves = [json!({ "Datacenter": "dc2", "Current": retired, "Unexpired": 9, "LastNotAfter": null })];
        let root = json!({
            "ID": "aa", "Phase": "retired", "Since": "now", "KeyType": "ec-p256", "NotAfter": "later", "Bridge": null, "Tainted": null,
            "Waits": [], "Leaves": leaves,
        });
        let status = json!({
            "Datacenter": "dc1", "Primary": "dc1", "Halted": false, "Rotation": rotation, "LastRotation": last,
            "RotationPeriod": null, "Roots": [root], "Datacenters": [],
        });
        serde_json::from_value(status).expect("a status")
    }

    fn rotation(phase: &str) -> Value {
        json!({
            "ID": 7, "Cause": "an operator", "Phase": phase, "FormerRootID": "aa", "RootID": "bb", "BeganAt": "now", "EndedAt": null,
            "Waits": [],
        })
    }

    fn seen(shaken: u64) -> Seen {
        Seen { shaken, ..Seen::default() }
    }

    fn live(is_shown: bool) -> (Live, Instant) {
        let live = Live::begin(&seen(100), is_shown);
        let start = live.reported_at;
        (live, start)
    }

    #[test]
    fn a_rotation_is_told_by_its_phases_and_what_is_left_and_its_end() {
        let (mut live, start) = live(false);
        let at = |millis: u64| start + Duration::from_millis(millis);
        let mut told = |millis: u64, shaken: u64, status: &CaStatus| live.report(status, &seen(shaken), at(millis));
        let waiting = status(rotation("waiting"), Value::Null, 0);
        assert_eq!(told(0, 100, &waiting), ["rotation 7: waiting; handshakes: 0 in all, 0 failed"]);
        assert_eq!(told(500, 200, &waiting), Vec::<String>::new(), "nothing has changed");
        let draining = |left: u64| status(Value::Null, rotation("finished"), left);
        assert_eq!(
            told(600, 220, &draining(5)),
            [
                "draining: 5 of 5 leaves still under retired roots; handshakes: 200/s, 120 in all, 0 failed",
                "  dc2: 5 leaves in use under aa"
            ]
        );
        assert_eq!(told(700, 230, &draining(4)), Vec::<String>::new(), "it was told less than a second ago");
        assert_eq!(told(1600, 400, &draining(3)).len(), 2);
        assert_eq!(
            told(1700, 420, &draining(0)),
            [
                "rotation 7 finished: all 0 leaves in use are under the active root; handshakes: 190/s, 320 in all, 0 failed"
            ]
        );
        assert!(live.is_over && live.numbers == (None, Some(7)));
    }

    #[test]
    fn one_that_was_over_before_is_not_told_and_one_that_was_too_quick_to_be_seen_is() {
        let over = status(Value::Null, rotation("finished"), 0);
        let (mut before, start) = live(false);
        assert_eq!(before.report(&over, &seen(100), start), Vec::<String>::new());
        let (mut quick, start) = live(true);
        assert_eq!(quick.report(&over, &seen(100), start).len(), 1);
    }
}
