//! `carrack token join`: a one-time token with which one named server joins the datacenter.

use clap::Subcommand;
use serde_json::json;

use super::{
    api::JoinToken,
    client::Client,
    error::CliError,
    output::{Format, Output, visible},
};
use crate::config::duration;

const ROUTE: &str = "/v1/carrack/join-token";

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
}

/// Checks a span of time and keeps it as text, as Consul's API takes it.
pub fn duration_text(text: &str) -> Result<String, duration::BadDuration> {
    duration::parse(text).map(|_| text.to_owned())
}

impl TokenCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        let Self::Join { node, ttl } = self;
        let mut body = json!({ "NodeName": node });
        if let Some(ttl) = ttl {
            body["TTL"] = json!(ttl);
        }
        let answer = client.write(ROUTE, &body).await?;
        if output.format() == Format::Json {
            return output.json(&answer);
        }
        let token: JoinToken = client.typed(ROUTE, &answer)?;
        output.line(&format!("A join token for {}, good once, until {}:", token.node_name, token.expires_at))?;
        output.line(&format!("\n{}\n", visible(&token.token)))?;
        output.line("On the new server, with its own data directory:")?;
        output.line(&format!("\n{}", visible(&token.command)))
    }
}
