//! `carrack agent`: runs the agent of this host, shows what it knows, and lists and removes those of a datacenter.

use clap::{Args, Subcommand};
use serde::Deserialize;
use serde_json::json;

use super::{
    api::segment,
    client::Client,
    error::CliError,
    output::{Format, Output, or_dash, visible, yes_or_no},
    server::token_text,
    settings::{AgentFlags, ConfigArgs},
};
use crate::{
    agent::AgentOptions,
    config::{Loaded, agent::AgentConfig},
    server::token_text::BadToken,
};

const ROUTE: &str = "/v1/carrack/agents";
const CACHE_ROUTE: &str = "/v1/carrack/agent/cache";

/// Runs the agent of this host, or asks about agents.
#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AgentArgs {
    /// What to ask; without it, the agent runs
    #[command(subcommand)]
    pub command: Option<AgentCommand>,
    /// The first time: the token that lets this host's agent in (`carrack token agent --node <name>`), or `@FILE` that holds it
    #[arg(long, value_name = "TOKEN", env = "CARRACK_AGENT_TOKEN", hide_env_values = true)]
    pub join: Option<String>,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs<AgentFlags>,
}

/// What to ask about agents.
#[derive(Clone, Debug, Subcommand)]
pub enum AgentCommand {
    /// Of the agent at --http-addr: its server, and the tokens and leaves that it keeps
    Cache,
    /// List the agents of the datacenter
    List,
    /// Remove an agent: its servers do not know it any more
    Remove {
        /// Name of its host
        #[arg(value_name = "NAME")]
        node: String,
    },
}

impl AgentArgs {
    /// The validated configuration, and how the agent runs with it.
    pub fn resolve(&self) -> Result<(Loaded<AgentConfig>, AgentOptions), CliError> {
        let next = "make one with `carrack token agent --node <name>` on a server of the datacenter";
        let parse = |text: &String| {
            token_text(text)?.parse().map_err(|error: BadToken| CliError::usage(error.to_string(), next))
        };
        let join = self.join.as_ref().map(parse).transpose()?;
        let loaded = self.config.load()?;
        let options = AgentOptions { data_dir: loaded.config.data_dir.clone(), http: loaded.config.http, join };
        Ok((loaded, options))
    }
}

impl AgentCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Cache => cache(client, output).await,
            Self::List => list(client, output).await,
            Self::Remove { node } => remove(node, client, output).await,
        }
    }
}

async fn cache(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(CACHE_ROUTE, &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let cache: AgentCache = client.typed(CACHE_ROUTE, &answer)?;
    output.facts([
        ("Agent", Some(cache.node_name)),
        ("Datacenter", Some(cache.datacenter)),
        ("Server", cache.server),
        ("Heard", cache.silent_seconds.map(|seconds| format!("{seconds} s ago"))),
        ("Trouble", cache.trouble),
        ("Not serving", cache.not_serving),
        ("Bundle", cache.bundle_revision.map(|revision| format!("revision {revision}, roots: {}", cache.roots))),
        ("Tokens", Some(cache.tokens.to_string())),
    ])?;
    output.line("")?;
    let rows = cache.leaves.iter().map(|leaf| {
        [
            leaf.service.clone(),
            leaf.accessor.clone(),
            leaf.valid_before.clone(),
            leaf.renews_at.clone(),
            leaf.failed_renewals.to_string(),
        ]
    });
    output.table(["Service", "Token", "Valid until", "Renews at", "Failed renewals"], rows)
}

async fn list(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(ROUTE, &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let agents: Vec<AgentEntry> = client.typed(ROUTE, &answer)?;
    let rows = agents.into_iter().map(|agent| {
        [
            agent.node_name,
            agent.joined_at,
            yes_or_no(agent.connected_here),
            or_dash(agent.bundle_revision.map(|revision| revision.to_string())),
        ]
    });
    output.table(["Agent", "Joined", "Connected to this server", "Bundle"], rows)
}

async fn remove(node: &str, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    client.delete(&format!("{ROUTE}/{}", segment(node))).await?;
    if output.format() == Format::Json {
        return output.json(&json!({ "Removed": node }));
    }
    output.line(&format!("The agent of {} is removed: no server knows its key any more.", visible(node)))?;
    output.line("Leaves that it holds stay valid until they end; delete the tokens that were used there to end what they may do.")
}

/// What an agent knows.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentCache {
    /// The name of its host.
    node_name: String,
    /// Its datacenter.
    datacenter: String,
    /// The server that it speaks to.
    server: Option<String>,
    /// How long ago a server was heard.
    silent_seconds: Option<u64>,
    /// Why it speaks to none, or did not at the last try.
    trouble: Option<String>,
    /// Why it serves nothing now.
    not_serving: Option<String>,
    /// The revision of its bundle.
    bundle_revision: Option<u64>,
    /// How many roots are in it.
    roots: usize,
    /// How many tokens it follows.
    tokens: usize,
    /// The leaves that it keeps.
    leaves: Vec<CachedLeaf>,
}

/// A leaf that an agent keeps.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct CachedLeaf {
    /// Its service.
    service: String,
    /// The public id of its token.
    #[serde(rename = "AccessorID")]
    accessor: String,
    /// Its last second.
    valid_before: String,
    /// When it is renewed.
    renews_at: String,
    /// How often that has failed since.
    failed_renewals: u32,
}

/// An agent of the datacenter.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct AgentEntry {
    /// The name of its host.
    node_name: String,
    /// When it joined.
    joined_at: String,
    /// Whether it holds a stream of the server that was asked.
    connected_here: bool,
    /// The revision of the bundle that it has.
    bundle_revision: Option<u64>,
}
