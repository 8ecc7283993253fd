//! `carrack token join|agent`: a one-time token with which one named server or the agent of one host joins the datacenter.

use clap::Subcommand;
use serde_json::json;

use super::{
    api::JoinToken,
    client::Client,
    error::CliError,
    output::{Format, Output, visible},
};
use crate::config::duration;

const JOIN_ROUTE: &str = "/v1/carrack/join-token";
const AGENT_ROUTE: &str = "/v1/carrack/agent-token";

/// Makes tokens for first contact.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a one-time token for one new server
    Join {
        /// Name of the server that will join
        #[arg(long, value_name = "NAME")]
        node: String,
        /// How long it may be used, such as 30m; default: the server's
        #[arg(long, value_name = "DURATION", value_parser = duration_text)]
        ttl: Option<String>,
    },
    /// Make a one-time token for the agent of one host
    Agent {
        /// Name of the host whose agent will join; one that has an agent already gets another
        #[arg(long, value_name = "NAME")]
        node: String,
        /// How long it may be used, such as 30m; default: the server's
        #[arg(long, value_name = "DURATION", value_parser = duration_text)]
        ttl: Option<String>,
    },
}

/// Checks a span of time and keeps it as text, as Consul's API takes it.
pub fn duration_text(text: &str) -> Result<String, duration::BadDuration> {
    duration::parse(text).map(|_| text.to_owned())
}

impl TokenCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        let (route, node, ttl) = match self {
            Self::Join { node, ttl } => (JOIN_ROUTE, node, ttl),
            Self::Agent { node, ttl } => (AGENT_ROUTE, node, ttl),
        };
        let mut body = json!({ "NodeName": node });
        if let Some(ttl) = ttl {
            body["TTL"] = json!(ttl);
        }
        let answer = client.write(route, &body).await?;
        if output.format() == Format::Json {
            return output.json(&answer);
        }
        let token: JoinToken = client.typed(route, &answer)?;
        let (what, place) = match self {
            Self::Join { .. } => ("A join token", "On the new server"),
            Self::Agent { .. } => ("An agent token", "On that host"),
        };
        output.line(&format!("{what} for {}, good once, until {}:", token.node_name, token.expires_at))?;
        output.line(&format!("\n{}\n", visible(&token.token)))?;
        output.line(&format!("{place}, with its own data directory:"))?;
        output.line(&format!("\n{}", visible(&token.command)))
    }
}
