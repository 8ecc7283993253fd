//! `carrack ca rotate|status|pause|resume|rollback|taint|schedule`: the rotation of the root.

use clap::Args;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{
    client::Client,
    error::CliError,
    output::{Format, Output, visible},
    rotation_plan,
    rotation_watch::{ProbeArguments, Watch},
};

const STATUS: &str = "/v1/carrack/ca";
const ROTATION: &str = "/v1/carrack/ca/rotation";
const ROLLBACK: &str = "/v1/carrack/ca/rollback";
const TAINT: &str = "/v1/carrack/ca/taint";
const ROOT_REVOCATION: &str = "/v1/carrack/ca/root-revocation";
const SERVER_REVOCATION: &str = "/v1/carrack/ca/server-revocation";
const MEMBERS: &str = "/v1/carrack/members";
const SCHEDULE: &str = "/v1/carrack/ca/schedule";

/// What to rotate to, and how.
#[derive(Args, Clone, Debug)]
pub struct RotateArguments {
    /// Show the steps and who is concerned, and change nothing
    #[arg(long, conflicts_with = "force_activate")]
    plan: bool,
    /// The key of the new root: ec-p256, ec-p384, rsa-2048, rsa-4096, ed25519; default: as configured
    #[arg(long, value_name = "TYPE")]
    pub(super) key_type: Option<String>,
    /// Stop before this step until `carrack ca resume`
    #[arg(long, value_name = "STEP", value_parser = ["activate"])]
    pause_before: Option<String>,
    /// Do without a certificate that leads from the former root to the new one: verifiers that know the former alone fail
    #[arg(long)]
    pub(super) without_cross_signing: bool,
    /// How long to wait for those who do not answer before an operator has to decide
    #[arg(long, value_name = "DURATION")]
    ack_timeout: Option<String>,
    /// Let the rotation under way activate without those who do not have the new root yet
    #[arg(long, conflicts_with_all = ["key_type", "pause_before", "without_cross_signing", "ack_timeout"])]
    force_activate: bool,
    /// Also with a key that some verifiers do not take
    #[arg(long)]
    yes: bool,
    /// Show the rotation until it is over
    #[arg(long, conflicts_with = "plan")]
    watch: bool,
    /// What connects meanwhile.
    #[command(flatten)]
    probes: ProbeArguments,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct CaStatus {
    datacenter: String,
    primary: String,
    halted: bool,
    #[serde(default)]
    halt_unknown: Option<String>,
    #[serde(default)]
    following: Option<Following>,
    #[serde(default)]
    leader: Option<String>,
    pub(crate) rotation: Option<Rotation>,
    pub(crate) last_rotation: Option<Rotation>,
    rotation_period: Option<String>,
    pub(super) roots: Vec<Root>,
    pub(super) datacenters: Vec<Datacenter>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Following {
    activation: u64,
    #[serde(rename = "RootID")]
    root: String,
    waits: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Rotation {
    #[serde(rename = "ID")]
    pub(crate) id: u64,
    cause: String,
    pub(crate) phase: String,
    #[serde(rename = "FormerRootID")]
    former_root: String,
    #[serde(rename = "RootID")]
    root: Option<String>,
    began_at: String,
    ended_at: Option<String>,
    pub(super) waits: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Root {
    #[serde(rename = "ID")]
    pub(super) id: String,
    pub(super) phase: String,
    pub(super) since: String,
    key_type: String,
    not_after: String,
    bridge: Option<Value>,
    tainted: Option<String>,
    pub(super) leaves: Vec<Leaves>,
    waits: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Leaves {
    pub(super) datacenter: String,
    pub(super) current: u64,
    unexpired: u64,
    last_not_after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Datacenter {
    pub(super) name: String,
    halted: bool,
    lagging_agents: u64,
    absent_servers: u64,
    heard_at: Option<String>,
}

impl CaStatus {
    /// The leaves that are issued under another root than the active one and in use, and all that are in use.
    pub(super) fn to_drain(&self) -> (u64, u64) {
        let current = |root: &Root| root.leaves.iter().fold(0, |sum: u64, left| sum.saturating_add(left.current));
        let sum = |of: &mut dyn Iterator<Item = &Root>| of.map(current).fold(0, u64::saturating_add);
        let left = sum(&mut self.roots.iter().filter(|root| root.phase == "retired"));
        (left, sum(&mut self.roots.iter()))
    }

    /// Whether no rotation is under way, and no leaf in use is under a retired root.
    pub(crate) fn is_over(&self) -> bool {
        self.rotation.is_none() && self.to_drain().0 == 0
    }
}

async fn fetch(client: &Client) -> Result<(CaStatus, Value), CliError> {
    let answer = client.read(STATUS, &[]).await?;
    Ok((client.typed(STATUS, &answer)?, answer))
}

/// The status of the datacenter where roots are rotated, whichever one is asked.
pub(crate) async fn fetch_of_primary(client: &Client) -> Result<(CaStatus, Value), CliError> {
    let (status, answer) = fetch(client).await?;
    if status.datacenter == status.primary {
        return Ok((status, answer));
    }
    let answer = client.read(STATUS, &[("dc", status.primary.clone())]).await?;
    Ok((client.typed(STATUS, &answer)?, answer))
}

/// `carrack ca status`
pub(super) async fn status(
    watch: bool,
    probes: &ProbeArguments,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    if watch {
        return Watch::start(probes, client).await?.run(output).await;
    }
    let (status, answer) = fetch(client).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    for line in lines(&status) {
        output.line(&line)?;
    }
    Ok(())
}

fn lines(status: &CaStatus) -> Vec<String> {
    let mut lines = Vec::new();
    if status.halted {
        lines.push("Issuing is halted: `carrack ca unhalt` lets it go on.".to_owned());
    }
    lines.extend(status.halt_unknown.iter().map(|reason| format!("Issuing has stopped: {}", visible(reason))));
    match (&status.rotation, &status.last_rotation) {
        (Some(rotation), _) => {
            lines.push(format!(
                "Rotation {}: {} ({})",
                rotation.id,
                visible(&rotation.phase),
                visible(&rotation.cause)
            ));
            lines.push(format!("  from {}, since {}", visible(&rotation.former_root), visible(&rotation.began_at)));
            lines.extend(rotation.root.iter().map(|root| format!("  to   {}", visible(root))));
            lines.extend(rotation.waits.iter().map(|wait| format!("  waiting: {}", visible(wait))));
        }
        (None, Some(last)) => {
            let ended = last.ended_at.as_deref().unwrap_or_default();
            lines.push(format!(
                "No rotation is under way; rotation {} {} at {}.",
                last.id,
                visible(&last.phase),
                visible(ended)
            ));
        }
        (None, None) if status.datacenter != status.primary => {
            lines.push(format!("Roots are rotated in the primary datacenter {}.", visible(&status.primary)));
        }
        (None, None) => lines.push("The root was never rotated.".to_owned()),
    }
    if let Some(Following { activation, root, waits }) = &status.following {
        let (primary, root) = (visible(&status.primary), visible(root));
        lines.push(format!(
            "{primary} has activated {root} (activation {activation}), under which nothing is issued here yet."
        ));
        lines.extend(waits.iter().map(|wait| format!("  waiting: {}", visible(wait))));
    }
    let under_way =
        status.rotation.iter().flat_map(|it| &it.waits).chain(status.following.iter().flat_map(|it| &it.waits));
    if let Some(leader) = status.leader.as_ref().filter(|_| under_way.count() > 0) {
        lines.push(format!(
            "  Servers that do not answer are not waited for: {}, which leads, knows which.",
            visible(leader)
        ));
    }
    lines.extend(status.rotation_period.iter().map(|period| format!("The root is rotated every {}.", visible(period))));
    for root in &status.roots {
        lines.extend(root_lines(root));
    }
    for other in status.datacenters.iter().filter(|it| it.lagging_agents > 0 || it.absent_servers > 0) {
        let (name, lagging, absent) = (visible(&other.name), other.lagging_agents, other.absent_servers);
        lines.push(format!("Datacenter {name}: {lagging} agents lag, {absent} servers do not answer."));
    }
    for halted in status.datacenters.iter().filter(|it| it.halted && !status.halted) {
        lines.push(format!("Datacenter {} is halted: it records no issuer and no leaf.", visible(&halted.name)));
    }
    for silent in status.datacenters.iter().filter(|it| it.heard_at.is_none()) {
        lines.push(format!("Datacenter {} has never said where it is.", visible(&silent.name)));
    }
    lines
}

fn root_lines(root: &Root) -> Vec<String> {
    let bridge = if root.bridge.is_some() { ", with a bridge" } else { "" };
    let (id, phase, since, end) =
        (visible(&root.id), visible(&root.phase), visible(&root.since), visible(&root.not_after));
    let mut lines =
        vec![format!("\nRoot {id}\n  {phase} since {since}, {}{bridge}, ends {end}", visible(&root.key_type))];
    lines.extend(root.tainted.iter().map(|reason| format!("  tainted: {}", visible(reason))));
    for left in root.leaves.iter().filter(|left| left.unexpired > 0) {
        let last = left
            .last_not_after
            .as_deref()
            .map_or_else(String::new, |last| format!(", the last ends {}", visible(last)));
        let (datacenter, current, unexpired) = (visible(&left.datacenter), left.current, left.unexpired);
        lines.push(format!("  {datacenter}: {current} leaves in use, {unexpired} that have not ended{last}"));
    }
    lines.extend(root.waits.iter().map(|wait| format!("  stays: {}", visible(wait))));
    lines
}

/// `carrack ca rotate`
pub(super) async fn rotate(
    arguments: &RotateArguments,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    if arguments.force_activate {
        let id = under_way(client).await?;
        return control(id, "force", client, output).await;
    }
    if arguments.plan {
        return rotation_plan::show(arguments, client, output).await;
    }
    if arguments.key_type.as_deref() == Some("ed25519") && !arguments.yes {
        return Err(ed25519_needs_yes());
    }
    let mut body = Map::new();
    let mut put = |key: &str, value: Option<Value>| value.map(|value| body.insert(key.into(), value));
    put("KeyType", arguments.key_type.clone().map(Value::from));
    put("PauseBefore", arguments.pause_before.clone().map(Value::from));
    put("AckTimeout", arguments.ack_timeout.clone().map(Value::from));
    put("ForceWithoutCrossSigning", arguments.without_cross_signing.then_some(Value::Bool(true)));
    // Before anything changes: what is wrong with the workloads is said, and they have their leaves under the former root.
    let watch = if arguments.watch { Some(Watch::start(&arguments.probes, client).await?) } else { None };
    let answer = client.write(ROTATION, &Value::Object(body)).await?;
    if let Some(watch) = watch {
        return watch.run(output).await;
    }
    match output.format() {
        Format::Json => output.json(&answer),
        Format::Table => output.line(&format!(
            "Rotation {} begins. `carrack ca status --watch` shows it, `carrack ca rollback` takes it back.",
            answer["ID"]
        )),
    }
}

/// Why a root with such a key is not begun without a second word.
pub(super) fn ed25519_needs_yes() -> CliError {
    CliError::Usage {
        what: "an ed25519 root is not taken by every verifier: Envoy refuses it".into(),
        next: "say --yes if no verifier of yours is one, or take another kind of key".into(),
    }
}

/// The primary, if another datacenter is asked.
pub(super) async fn primary(client: &Client) -> Result<Option<String>, CliError> {
    let (status, _) = fetch(client).await?;
    Ok((status.datacenter != status.primary).then_some(status.primary))
}

/// After a change that may have begun a rotation: whether one is under way.
pub(super) async fn tell_under_way(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.format() == Format::Json {
        return Ok(());
    }
    let (status, _) = fetch_of_primary(client).await?;
    let Some(rotation) = status.rotation else { return Ok(()) };
    output.line(&format!(
        "\nRotation {} is under way ({}): `carrack ca status --watch` shows it.",
        rotation.id,
        visible(&rotation.cause)
    ))
}

async fn under_way(client: &Client) -> Result<u64, CliError> {
    let (status, _) = fetch_of_primary(client).await?;
    status.rotation.map(|rotation| rotation.id).ok_or_else(|| CliError::Usage {
        what: "no rotation is under way".into(),
        next: "`carrack ca status` shows the last one; `carrack ca rotate` begins one".into(),
    })
}

async fn control(id: u64, action: &str, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    client.write(&format!("{ROTATION}/{id}"), &json!({ "Action": action })).await?;
    match (output.format(), action) {
        (Format::Json, _) => output.json(&json!({ "ID": id, "Action": action })),
        (_, "pause") => output.line(&format!("Rotation {id} stops before it activates, until `carrack ca resume`.")),
        (_, "force") => {
            output.line(&format!("Rotation {id} activates without those who do not have the new root yet."))
        }
        _ => output.line(&format!("Rotation {id} goes on.")),
    }
}

/// `carrack ca pause` and `carrack ca resume`
pub(super) async fn steer(action: &str, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    control(under_way(client).await?, action, client, output).await
}

/// `carrack ca rollback`: the rotation under way, or the last one.
pub(super) async fn roll_back(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let (status, _) = fetch_of_primary(client).await?;
    let rotation = status.rotation.or(status.last_rotation);
    let id = rotation.map(|rotation| rotation.id).ok_or_else(|| CliError::Usage {
        what: "there is no rotation that could be taken back".into(),
        next: "`carrack ca status` shows the roots".into(),
    })?;
    client.write(ROLLBACK, &json!({ "ID": id })).await?;
    match output.format() {
        Format::Json => output.json(&json!({ "ID": id })),
        Format::Table => {
            output.line(&format!("Rotation {id} is taken back; `carrack ca status --watch` shows how far that is."))
        }
    }
}

/// `carrack ca taint`
pub(super) async fn taint(root: &str, reason: &str, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    client.write(TAINT, &json!({ "RootID": root, "Reason": reason })).await?;
    match output.format() {
        Format::Json => output.json(&json!({ "Tainted": root })),
        Format::Table => output.line(&format!(
            "The root {} is tainted, in every datacenter's `ca status`: its leaves are renewed now, unpaced; `carrack ca revoke --root` refuses those that are not.",
            visible(root)
        )),
    }
}

/// `carrack ca revoke --root`
pub(super) async fn revoke_root(
    root: &str,
    reason: &str,
    force: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    client.write(ROOT_REVOCATION, &json!({ "RootID": root, "Reason": reason, "Force": force })).await?;
    match output.format() {
        Format::Json => output.json(&json!({ "Revoked": root })),
        Format::Table => output.line(&format!("The root {} leaves the bundle of every datacenter.", visible(root))),
    }
}

/// What was done about a server that is in other hands.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RevokedServer {
    issuers: Vec<String>,
    is_member: bool,
    rotation: Option<u64>,
}

/// `carrack ca revoke --server`: revokes its issuers, removes it where this datacenter is its own, and rotates the root.
pub(super) async fn revoke_server(
    server: &str,
    reason: &str,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let (status, _) = fetch(client).await?;
    let (datacenter, text) = server.split_once('/').unwrap_or((&status.datacenter, server));
    let is_own = datacenter == status.datacenter;
    let node = if is_own { id_of_member(text, client).await? } else { text.parse().map_err(|_| no_id(datacenter))? };
    let body = json!({ "Datacenter": datacenter, "NodeID": node, "Reason": reason });
    let revoke = async || -> Result<(RevokedServer, Value), CliError> {
        let answer = client.write(SERVER_REVOCATION, &body).await?;
        Ok((client.typed(SERVER_REVOCATION, &answer)?, answer))
    };
    let (mut revoked, mut answer) = revoke().await?;
    let issuers = std::mem::take(&mut revoked.issuers);
    if revoked.is_member && is_own {
        client.delete(&format!("{MEMBERS}/{node}")).await?;
        (revoked, answer) = revoke().await?;
    }
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    output.line(&format!(
        "Revoked in every datacenter: {} issuers of server {node} of {}.",
        issuers.len(),
        visible(datacenter)
    ))?;
    match revoked.rotation {
        Some(id) => output.line(&format!(
            "Rotation {id} leads to a root that it has never had, without a bridge: verifiers without an agent must fetch the bundle. The former \
             root leaves the bundle as soon as no leaf in use is under it; `carrack ca status --watch` shows it."
        )),
        None if !revoked.is_member => {
            output.line("It is removed, and had nothing under the active root: nothing more is to be done.")
        }
        None => output.line(&format!(
            "It is still a server of its datacenter and would ask for another issuer: remove it there with `carrack members remove {node}`, \
             then say this again, which rotates the root."
        )),
    }
}

async fn id_of_member(text: &str, client: &Client) -> Result<u64, CliError> {
    let members = client.read(MEMBERS, &[]).await?;
    let found = members.as_array().into_iter().flatten().find(|member| member["NodeName"] == text);
    let id = found.and_then(|member| member["NodeId"].as_u64()).or_else(|| text.parse().ok());
    id.ok_or_else(|| no_id("this datacenter"))
}

fn no_id(datacenter: &str) -> CliError {
    CliError::Usage {
        what: format!("no server of {} has this name or id", visible(datacenter)),
        next: "`carrack members list`, asked there, shows the ids; one that was removed has its id alone".into(),
    }
}

/// `carrack ca schedule`
pub(super) async fn schedule(period: &str, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let period = if period == "off" { "" } else { period };
    client.write(SCHEDULE, &json!({ "RotationPeriod": period })).await?;
    match (output.format(), period) {
        (Format::Json, _) => output.json(&json!({ "RotationPeriod": period })),
        (_, "") => output.line("The root is rotated when an operator says so."),
        (_, period) => output.line(&format!("The root is rotated every {}.", visible(period))),
    }
}
