//! `carrack ca status --watch` and `carrack ca rotate --watch`: a rotation until the former root has drained, beside the handshakes of
//! workloads that go on meanwhile.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::{
    client::Client,
    error::CliError,
    output::{Format, Output, visible},
    rotation::{CaStatus, fetch_of_primary},
};
use crate::{
    probe::{Prober, Target, View},
    server::ports::MachineClock,
};

/// How long `--watch` bears that nobody answers.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often `--watch` looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);
/// How long each pair of workloads may take until its first handshake: a leaf is there within a second, or its agent does not answer.
const FIRST_ROUND_WITHIN: Duration = Duration::from_secs(5);

/// The workloads that connect to each other while a rotation is watched.
#[derive(Args, Clone, Debug, Default)]
pub struct ProbeArguments {
    /// With --watch: a workload, with the address of its agent, which gives its leaf to this command's token; give two or more, and they
    /// connect to each other meanwhile
    #[arg(
        long,
        value_name = "SERVICE@AGENT_URL",
        env = "CARRACK_PROBE",
        hide_env_values = true,
        value_delimiter = ','
    )]
    probe: Vec<String>,
}

impl ProbeArguments {
    fn start(&self, client: &Client) -> Result<Option<Prober>, CliError> {
        let targets = Target::parse_all(self.probe.iter().map(String::as_str))?;
        if targets.is_empty() {
            return Ok(None);
        }
        let with_client = |target: Target| Ok((target.clone(), client.at(target.agent().to_owned())?));
        let workloads = targets.into_iter().map(with_client).collect::<Result<_, CliError>>()?;
        Ok(Some(Prober::start(workloads, Arc::new(MachineClock))))
    }
}

/// Watches a rotation.
pub(super) struct Watch<'a> {
    client: &'a Client,
    probing: Option<(Prober, View)>,
}

impl<'a> Watch<'a> {
    /// Begins with the handshakes.
    pub(super) async fn start(probes: &ProbeArguments, client: &'a Client) -> Result<Self, CliError> {
        let prober = probes.start(client)?;
        if let Some(prober) = &prober {
            prober.wait_for_round(FIRST_ROUND_WITHIN).await;
        }
        Ok(Self { client, probing: prober.map(|prober| (prober, View::default())) })
    }

    /// Shows the rotation until it is over, a line whenever something has changed, and at the end how the handshakes went.
    pub(super) async fn run(mut self, output: &mut Output<'_>) -> Result<(), CliError> {
        let ended = self.look_on(output).await;
        let Some((prober, view)) = self.probing else { return ended };
        let seen = prober.seen();
        prober.stop().await;
        if output.format() == Format::Table {
            view.summary(&seen).iter().try_for_each(|line| output.line(line))?;
        }
        ended
    }

    async fn look_on(&mut self, output: &mut Output<'_>) -> Result<(), CliError> {
        let (mut shown, mut before) = (Vec::new(), None::<(Instant, u64)>);
        let mut failing_since = None::<Instant>;
        let mut bar = (output.format() == Format::Table && std::io::stderr().is_terminal()).then(Bar::new);
        loop {
            let (status, answer) = match fetch_of_primary(self.client).await {
                Ok(fetched) => fetched,
                // A leader that falls is one of the things that are looked at here.
                Err(error) if failing_since.get_or_insert_with(Instant::now).elapsed() > PATIENCE => return Err(error),
                Err(_) => {
                    sleep(WATCH_EVERY).await;
                    continue;
                }
            };
            failing_since = None;
            let (handshakes, mut news, of_program) = self.handshakes();
            if output.format() == Format::Json {
                output.json(&with_handshakes(answer, of_program))?;
            } else {
                let (left, all) = status.to_drain();
                let now = Instant::now();
                let rate = before
                    .map_or(0.0, |(at, was)| was.saturating_sub(left) as f64 / now.duration_since(at).as_secs_f64());
                before = Some((now, left));
                let lines: Vec<String> = [progress(&status, rate)].into_iter().chain(left_lines(&status)).collect();
                if let Some(bar) = &bar {
                    bar.show(left, all, &[&lines[..], &handshakes].concat());
                    bar.0.suspend(|| news.drain(..).try_for_each(|line| output.line(&line)))?;
                }
                if status.is_over() {
                    bar = None;
                }
                if bar.is_none() && lines != shown {
                    [&lines[..], &handshakes].concat().iter().try_for_each(|line| output.line(line))?;
                }
                if bar.is_none() {
                    news.iter().try_for_each(|line| output.line(line))?;
                }
                shown = lines;
            }
            if status.is_over() {
                return Ok(());
            }
            sleep(WATCH_EVERY).await;
        }
    }

    /// The line about the handshakes, what is new of failures, and both for programs.
    fn handshakes(&mut self) -> (Vec<String>, Vec<String>, Option<Value>) {
        let Some((prober, view)) = &mut self.probing else { return Default::default() };
        let seen = prober.seen();
        let look = view.look(&seen, Instant::now());
        (vec![look.line()], look.news.clone(), Some(look.json(&seen)))
    }
}

/// The server's answer, with what this command has seen beside it.
fn with_handshakes(mut answer: Value, handshakes: Option<Value>) -> Value {
    if let (Some(answer), Some(handshakes)) = (answer.as_object_mut(), handshakes) {
        answer.insert("Handshakes".into(), handshakes);
    }
    answer
}

/// On a terminal: lines that change, with the part of the leaves in use that is under the active root.
struct Bar(ProgressBar);

impl Bar {
    fn new() -> Self {
        let bar = ProgressBar::new(0);
        let style = ProgressStyle::with_template("{bar:24} {pos} of {len} leaves  {msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self(bar)
    }

    fn show(&self, left: u64, all: u64, lines: &[String]) {
        self.0.set_length(all);
        self.0.set_position(all.saturating_sub(left));
        self.0.set_message(lines.join("\n  "));
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}

/// How far a rotation is, in a line. `rate`: how many leaves a second leave the retired roots.
pub(crate) fn progress(status: &CaStatus, rate: f64) -> String {
    let (left, all) = status.to_drain();
    match &status.rotation {
        Some(rotation) if rotation.waits.is_empty() => {
            format!("rotation {}: {}", rotation.id, visible(&rotation.phase))
        }
        Some(rotation) => {
            format!("rotation {}: {}: {}", rotation.id, visible(&rotation.phase), visible(&rotation.waits.join("; ")))
        }
        None if left > 0 && rate > 0.0 => {
            let eta = left as f64 / rate;
            format!("draining: {left} of {all} leaves still under retired roots; {rate:.0}/s, about {eta:.0} s to go")
        }
        None if left > 0 => format!("draining: {left} of {all} leaves still under retired roots"),
        None => {
            let last = status.last_rotation.as_ref();
            let ended =
                last.map_or_else(String::new, |last| format!("rotation {} {}: ", last.id, visible(&last.phase)));
            format!("{ended}all {all} leaves in use are under the active root")
        }
    }
}

/// What is left under each retired root in each datacenter, a line each.
pub(crate) fn left_lines(status: &CaStatus) -> Vec<String> {
    let retired = status.roots.iter().filter(|root| root.phase == "retired");
    let left = retired.flat_map(|root| root.leaves.iter().map(move |left| (root, left)));
    let left = left.filter(|(_, left)| left.current > 0);
    left.map(|(root, left)| {
        format!("{}: {} leaves in use under {}", visible(&left.datacenter), left.current, visible(&root.id))
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn status(rotation: Value, retired: [u64; 2]) -> CaStatus {
        let leaves = |counts: [u64; 2]| {
            let entry = |name: &str, current: u64| json!({ "Datacenter": name, "Current": current, "Unexpired": 99, "LastNotAfter": null });
            [entry("dc1", counts[0]), entry("dc2\u{1b}", counts[1])]
        };
        let root = |id: &str, phase: &str, counts: [u64; 2]| {
            json!({
                "ID": id, "Phase": phase, "Since": "now", "KeyType": "ec-p256", "NotAfter": "later", "Bridge": null, "Tainted": null,
                "Waits": [], "Leaves": leaves(counts),
            })
        };
        let status = json!({
            "Datacenter": "dc1", "Primary": "dc1", "Halted": false, "Rotation": rotation, "LastRotation": null,
            "RotationPeriod": null, "Roots": [root("aa", "active", [5, 6]), root("bb", "retired", retired)], "Datacenters": [],
        });
        serde_json::from_value(status).expect("a status")
    }

    #[test]
    fn what_is_left_is_told_of_each_retired_root_in_each_datacenter() {
        let draining = status(Value::Null, [0, 14]);
        assert_eq!(left_lines(&draining), ["dc2?: 14 leaves in use under bb"]);
        assert!(!draining.is_over());
        assert_eq!(progress(&draining, 0.0), "draining: 14 of 25 leaves still under retired roots");
        assert_eq!(left_lines(&status(Value::Null, [3, 14])).len(), 2);
        assert_eq!(left_lines(&status(Value::Null, [0, 0])), Vec::<String>::new());
    }
}
