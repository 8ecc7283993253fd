//! `carrack federation token|list|show|remove`: the datacenters of the trust domain.

use clap::Subcommand;
use serde_json::json;

use super::{
    api::{Federation, FederationDatacenter, FederationToken, HiddenToken, Secondary, segment},
    client::Client,
    error::CliError,
    output::{Format, Output, or_dash, visible, yes_or_no},
    token::duration_text,
};

const ROUTE: &str = "/v1/carrack/federation";
const TOKEN_ROUTE: &str = "/v1/carrack/federation/token";

/// Connects datacenters into one trust domain.
#[derive(Clone, Debug, Subcommand)]
pub enum FederationCommand {
    /// In the primary: make a one-time token for one new datacenter
    Token {
        /// Name of the datacenter that will join
        #[arg(long, value_name = "NAME")]
        datacenter: String,
        /// How long it may be used, such as 30m; default: the server's
        #[arg(long, value_name = "DURATION", value_parser = duration_text)]
        ttl: Option<String>,
    },
    /// List the datacenters
    List,
    /// Show how this datacenter stands with the others, or one of them
    Show {
        /// Name of the datacenter; default: all
        #[arg(value_name = "NAME")]
        name: Option<String>,
    },
    /// In the primary: forget a datacenter; its servers are let in no more
    Remove {
        /// Name of the datacenter
        #[arg(value_name = "NAME")]
        name: String,
    },
}

impl FederationCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Token { datacenter, ttl } => token(datacenter, ttl.as_deref(), client, output).await,
            Self::List => list(client, output).await,
            Self::Show { name } => show(name.as_deref(), client, output).await,
            Self::Remove { name } => remove(name, client, output).await,
        }
    }
}

async fn token(datacenter: &str, ttl: Option<&str>, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let mut body = json!({ "Datacenter": datacenter });
    if let Some(ttl) = ttl {
        body["TTL"] = json!(ttl);
    }
    let answer = client.write(TOKEN_ROUTE, &body).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let token: FederationToken = client.typed(TOKEN_ROUTE, &answer)?;
    let (name, end) = (&token.datacenter, &token.expires_at);
    output.line(&format!("A federation token for the datacenter {name}, good once, until {end}:"))?;
    output.line(&format!("\n{}\n", visible(&token.token)))?;
    output.line("On the first server of the new datacenter, with its own data directory:")?;
    output.line(&format!("\n{}", visible(&token.command)))
}

async fn list(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(ROUTE, &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer["Datacenters"]);
    }
    let federation: Federation = client.typed(ROUTE, &answer)?;
    let own = FederationDatacenter {
        name: federation.datacenter.clone(),
        cluster_id: federation.cluster_id.clone(),
        primary: federation.primary == federation.datacenter,
        wan_addresses: federation.wan_addresses.clone(),
        known_since: String::new(),
        issuers: None,
        issuers_until: None,
    };
    print_datacenters(&federation.datacenter, std::iter::once(&own).chain(&federation.datacenters), output)
}

fn print_datacenters<'a>(
    own: &str,
    datacenters: impl Iterator<Item = &'a FederationDatacenter>,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let rows = datacenters.map(|datacenter| {
        let name = if datacenter.name == own { format!("{own} (here)") } else { datacenter.name.clone() };
        [
            name,
            if datacenter.primary { "primary".into() } else { "secondary".into() },
            datacenter.wan_addresses.join(" "),
            or_dash(Some(datacenter.known_since.clone()).filter(|since| !since.is_empty())),
            or_dash(datacenter.issuers.map(|issuers| issuers.to_string())),
            or_dash(datacenter.issuers_until.clone()),
        ]
    });
    let headings = ["Datacenter", "Role", "WAN addresses", "Known since", "Issuers signed", "Until"];
    output.table(headings, rows)
}

async fn show(name: Option<&str>, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(ROUTE, &[]).await?;
    let federation: Federation = client.typed(ROUTE, &answer)?;
    let found = federation.datacenters.iter().find(|other| Some(other.name.as_str()) == name);
    if let Some(name) = name.filter(|name| found.is_none() && *name != federation.datacenter) {
        return Err(CliError::usage(
            format!("datacenter {} knows no datacenter {}", federation.datacenter, visible(name)),
            "`carrack federation list` shows those that it knows",
        ));
    }
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let rows: Vec<&FederationDatacenter> =
        federation.datacenters.iter().filter(|other| found.is_none_or(|found| found.name == other.name)).collect();
    output.facts([
        ("Datacenter", Some(federation.datacenter.clone())),
        ("Primary", Some(federation.primary.clone())),
        ("Trust domain", Some(federation.trust_domain.clone())),
        ("WAN addresses", Some(federation.wan_addresses.join(" "))),
    ])?;
    output.line("")?;
    print_datacenters(&federation.datacenter, rows.into_iter(), output)?;
    match &federation.secondary {
        Some(secondary) => print_secondary(secondary, output),
        None => Ok(()),
    }
}

/// Prints how a secondary stands with the primary.
pub fn print_secondary(secondary: &Secondary, output: &mut Output<'_>) -> Result<(), CliError> {
    output.line(&format!("\n{}", independence(secondary)))?;
    output.line(&honours(secondary))?;
    if !secondary.halt_staleness_max.is_empty() {
        output.line(&issues(secondary))?;
    }
    output.line("")?;
    let rows = secondary.streams.iter().map(|stream| {
        [
            stream.table.clone(),
            or_dash(stream.open.map(yes_or_no)),
            if stream.reading {
                format!("{} (reading the whole table)", stream.revision)
            } else {
                stream.revision.to_string()
            },
            or_dash(stream.lag.map(|lag| lag.to_string())),
            or_dash(
                stream.silent_seconds.map(|seconds| format!("{seconds} s ago")).or_else(|| stream.heard_at.clone()),
            ),
            or_dash(stream.trouble.clone()),
        ]
    });
    let headings = ["Table of the primary", "Open", "Revision", "Lag", "Heard", "Trouble"];
    output.table(headings, rows)?;
    if let Some(leader) = &secondary.leader {
        let leader = visible(leader);
        output.line(&format!(
            "\nserver {leader} leads: ask it (--http-addr) whether the streams are open and what ails them"
        ))?;
    }
    for unsigned in &secondary.unsigned_issuers {
        output.line(&format!("\nno issuer for {}: {}", visible(&unsigned.node_name), visible(&unsigned.reason)))?;
    }
    if let Some(reason) = &secondary.unannounced {
        output.line(&format!("\nthe primary does not know where this datacenter is now: {}", visible(reason)))?;
    }
    for HiddenToken { accessor, local } in &secondary.hidden_tokens {
        let (accessor, local) = (visible(accessor), visible(local));
        output.line(&format!(
            "\ntoken {accessor} of the primary is not honoured here: the local token {local} has its accessor id or its secret"
        ))?;
    }
    Ok(())
}

/// For how long a secondary can do without the primary, in one sentence.
pub fn independence(secondary: &Secondary) -> String {
    if secondary.halt_unknown {
        return format!(
            "issues nothing: {} was not heard for longer than ca.halt_staleness_max ({}), and may have halted it",
            visible(&secondary.primary),
            visible(&secondary.halt_staleness_max)
        );
    }
    let seconds = secondary.issues_for_seconds;
    let span = match seconds {
        0 => return format!("cannot issue: it has no issuer that {} has signed and that is valid", secondary.primary),
        seconds if seconds >= 2 * 86_400 => format!("{} d", seconds / 86_400),
        seconds if seconds >= 2 * 3600 => format!("{} h", seconds / 3600),
        seconds => format!("{} min", seconds / 60),
    };
    format!("can issue without the primary {} for {span}", secondary.primary)
}

/// How long tokens that hold in every datacenter are honoured without the primary, in one sentence.
pub fn honours(secondary: &Secondary) -> String {
    format!("tokens of all datacenters are honoured without it: {}", visible(&secondary.token_staleness_max))
}

/// How long leaves are issued although the primary, which may have halted that, is not heard, in one sentence.
pub fn issues(secondary: &Secondary) -> String {
    format!("leaves are issued without hearing whether it has halted them: {}", visible(&secondary.halt_staleness_max))
}

async fn remove(name: &str, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    client.delete(&format!("{ROUTE}/{}", segment(name))).await?;
    if output.format() == Format::Json {
        return output.json(&json!({ "Removed": name }));
    }
    output.line(&format!("{name} is removed: its servers are let in no more."))?;
    output.line(
        "Removing takes nothing back: its issuers were signed under the root and stay valid until they end. \
         If that datacenter may be in other hands, rotate the root.",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_seconds(issues_for_seconds: u64) -> String {
        independence(&secondary(issues_for_seconds, false))
    }

    fn secondary(issues_for_seconds: u64, halt_unknown: bool) -> Secondary {
        Secondary {
            primary: "dc1".into(),
            issues_until: None,
            issues_for_seconds,
            token_staleness_max: String::new(),
            halt_staleness_max: "24h".into(),
            halt_unknown,
            streams: Vec::new(),
            leader: None,
            unsigned_issuers: Vec::new(),
            unannounced: None,
            hidden_tokens: Vec::new(),
        }
    }

    #[test]
    fn the_remaining_time_is_said_in_the_unit_that_an_operator_thinks_in() {
        assert_eq!(with_seconds(181 * 86_400 + 5), "can issue without the primary dc1 for 181 d");
        assert_eq!(with_seconds(36 * 3600), "can issue without the primary dc1 for 36 h");
        assert_eq!(with_seconds(5400), "can issue without the primary dc1 for 90 min");
        assert!(with_seconds(0).starts_with("cannot issue"));
        let stopped =
            "issues nothing: dc1 was not heard for longer than ca.halt_staleness_max (24h), and may have halted it";
        assert_eq!(independence(&secondary(0, true)), stopped);
    }
}
