//! `carrack members list|remove`: the servers of the datacenter.

use clap::Subcommand;

use super::{
    api::{Member, segment},
    client::Client,
    error::CliError,
    output::{Format, Output, or_dash, yes_or_no},
};

const ROUTE: &str = "/v1/carrack/members";

/// Lists and removes the servers of the datacenter.
#[derive(Clone, Debug, Subcommand)]
pub enum MembersCommand {
    /// List the servers
    List,
    /// Remove a server for good: its node id is never used again
    Remove {
        /// Name or id of the server
        #[arg(value_name = "NODE")]
        node: String,
    },
}

impl MembersCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::List => list(client, output).await,
            Self::Remove { node } => remove(node, client, output).await,
        }
    }
}

async fn list(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(ROUTE, &[]).await?;
    match output.format() {
        Format::Json => output.json(&answer),
        Format::Table => print(&client.typed::<Vec<Member>>(ROUTE, &answer)?, output),
    }
}

async fn remove(node: &str, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    client.delete(&format!("{ROUTE}/{}", segment(node))).await?;
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "Removed": node }));
    }
    output.line(&format!("{node} is removed; its node id is never used again."))?;
    output.line(
        "Removing takes no knowledge back: that server still has its keys. Wipe its data directory; \
         if others may have it, treat it as compromised.",
    )
}

/// Prints servers as a table.
pub fn print(members: &[Member], output: &mut Output<'_>) -> Result<(), CliError> {
    let rows = members.iter().map(|member| {
        let role = if member.leaving { format!("{}, leaving", member.role) } else { member.role.clone() };
        [
            member.node_name.clone(),
            member.node_id.to_string(),
            member.raft_address.clone(),
            role,
            yes_or_no(member.voter),
            or_dash(member.reachable.map(yes_or_no)),
            or_dash(member.replication_lag.map(|lag| lag.to_string())),
            or_dash(member.certificate_expiry.clone()),
        ]
    });
    let headings = ["Node", "Id", "Raft address", "Role", "Voter", "Reachable", "Lag", "Certificate until"];
    output.table(headings, rows)
}
