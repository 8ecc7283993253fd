//! `carrack status`: who leads, how far the log is, what the CA has, what is wrong.

use super::{
    api::{Bundle, Ca, Status},
    client::Client,
    error::CliError,
    federation, members,
    output::{Format, Output, or_dash, visible},
};

const ROUTE: &str = "/v1/carrack/status";

/// Asks the server for its status and prints it.
pub async fn run(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(ROUTE, &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    print(&client.typed(ROUTE, &answer)?, output)
}

fn print(status: &Status, output: &mut Output<'_>) -> Result<(), CliError> {
    let leader = status.leader.as_ref();
    let leader_id = leader.map(|leader| leader.node_id);
    let leader = leader.map_or("none".into(), |leader| format!("{} (id {})", leader.node_name, leader.node_id));
    // Only the leader knows whether a majority's clocks agreed on it.
    let is_leader = leader_id == Some(status.node_id);
    let clock = if status.clock_ready || !is_leader { "" } else { " (not agreed yet)" };
    let is_halt_unknown = status.secondary.as_ref().is_some_and(|secondary| secondary.halt_unknown);
    let issuing = match (&status.halted, status.ca.as_ref().is_some_and(|ca| ca.initialized)) {
        (true, _) => "halted",
        (false, true) if is_halt_unknown => "stopped until the primary, which may have halted it, is heard again",
        (false, true) => "on",
        (false, false) => "not yet: the CA is not initialised",
    };
    output.facts([
        ("Datacenter", Some(status.datacenter.clone())),
        ("Trust domain", Some(status.trust_domain.clone())),
        ("Secondary", status.secondary.as_ref().map(federation::independence)),
        ("Global tokens", status.secondary.as_ref().map(federation::honours)),
        (
            "Primary unheard",
            status.secondary.as_ref().filter(|it| !it.halt_staleness_max.is_empty()).map(federation::issues),
        ),
        ("Leader", Some(leader)),
        ("Asked server", Some(format!("{} (id {}, {})", status.node_name, status.node_id, status.role))),
        ("Term", Some(status.term.to_string())),
        (
            "Log",
            Some(format!(
                "last {}, committed {}, applied {}, snapshot {}",
                status.last_log_index, status.committed_index, status.applied_index, status.snapshot_index
            )),
        ),
        ("Log time", Some(format!("{}{clock}", status.log_time)).filter(|time| !time.is_empty())),
        ("Issuing", Some(issuing.into())),
        ("Bundle", status.bundle.as_ref().map(bundle)),
        (
            "Leaves",
            Some(format!(
                "{} recorded, {} unexpired, {} current",
                status.issuance_count, status.issuance_live, status.current_leaves
            )),
        ),
        ("Issuance head", Some(status.issuance_head.clone()).filter(|head| !head.is_empty())),
    ])?;
    output.line("")?;
    members::print(&status.members, output)?;
    if let Some(ca) = &status.ca {
        print_ca(ca, output)?;
    }
    for problem in &status.problems {
        output.line(&format!("\nproblem: {}", visible(problem)))?;
    }
    Ok(())
}

/// Whether every agent has the newest roots, as far as the servers have said.
fn bundle(bundle: &Bundle) -> String {
    let waits = bundle.servers.iter().filter(|server| server.acknowledged != Some(bundle.revision));
    let waits: Vec<&str> = waits.map(|server| server.node_name.as_str()).collect();
    match waits.is_empty() {
        true => format!("revision {}, every agent has it", bundle.revision),
        false => format!("revision {}, not yet acknowledged by the agents of {}", bundle.revision, waits.join(", ")),
    }
}

fn print_ca(ca: &Ca, output: &mut Output<'_>) -> Result<(), CliError> {
    output.line("")?;
    let roots = ca.roots.iter().map(|root| {
        ["root".into(), root.id.clone(), root.phase.clone(), "-".into(), or_dash(Some(root.not_after.clone()))]
    });
    let issuers = ca.issuers.iter().map(|issuer| {
        let end = or_dash(Some(issuer.not_after.clone()));
        ["issuer".into(), issuer.id.clone(), issuer.phase.clone(), issuer.node_name.clone(), end]
    });
    output.table(["CA", "Id", "Phase", "Server", "Valid until"], roots.chain(issuers))?;
    match &ca.last_error {
        Some(error) if !error.is_empty() => output.line(&format!("\nlast error of the CA: {}", visible(error))),
        _ => Ok(()),
    }
}
