//! `carrack intention create|check|match|list|delete|explain`: which service may reach which, and why.

use std::path::PathBuf;

use clap::{ArgGroup, Args, Subcommand};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::segment,
    client::Client,
    error::CliError,
    files,
    output::{Format, Output, or_dash, visible},
};

const ROUTE: &str = "/v1/connect/intentions";
const EXPLAIN_ROUTE: &str = "/v1/carrack/intention/explain";

/// Decides which service may reach which.
#[derive(Clone, Debug, Subcommand)]
pub enum IntentionCommand {
    /// Make an intention, or change the one that is there
    Create(CreateArgs),
    /// Say whether a service may reach another
    Check(PairArgs),
    /// List what a connection to a service may meet, the deciding ones first
    Match {
        /// The service
        #[arg(value_name = "SERVICE")]
        service: String,
        /// List what a connection from it may meet instead
        #[arg(long)]
        source: bool,
    },
    /// List the intentions
    List,
    /// Delete an intention
    Delete(PairArgs),
    /// Say which intention decides, and which others it beats
    Explain(ExplainArgs),
}

/// Both ends.
#[derive(Clone, Debug, Args)]
pub struct PairArgs {
    /// The service that reaches; where an intention is named also `*`: every one
    #[arg(value_name = "SOURCE")]
    pub source: String,
    /// The service that is reached; where an intention is named also `*`: every one
    #[arg(value_name = "DESTINATION")]
    pub destination: String,
}

/// A new intention.
#[derive(Clone, Debug, Args)]
#[command(group = ArgGroup::new("effect").required(true).args(["allow", "deny", "permissions"]))]
pub struct CreateArgs {
    /// Both ends.
    #[command(flatten)]
    pub pair: PairArgs,
    /// The source may reach the destination
    #[arg(long)]
    pub allow: bool,
    /// It may not
    #[arg(long)]
    pub deny: bool,
    /// File with a JSON list of permissions: each request is decided by the first that fits it
    #[arg(long, value_name = "FILE")]
    pub permissions: Option<PathBuf>,
    /// A note for people
    #[arg(long, default_value = "")]
    pub description: String,
}

/// What is to be explained.
#[derive(Clone, Debug, Args)]
pub struct ExplainArgs {
    /// Both ends.
    #[command(flatten)]
    pub pair: PairArgs,
    /// Path of a request; without one the connection is decided, as by `check`
    #[arg(long, value_name = "PATH")]
    pub path: Option<String>,
    /// Method of the request; default: GET
    #[arg(long, value_name = "METHOD", requires = "path")]
    pub method: Option<String>,
    /// Header of the request, as 'Name: value'; may be given several times
    #[arg(long = "header", value_name = "HEADER", requires = "path")]
    pub headers: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Intention {
    source_name: String,
    destination_name: String,
    #[serde(default)]
    action: String,
    #[serde(default)]
    permissions: Vec<Value>,
    #[serde(default)]
    description: String,
    #[serde(default)]
    precedence: u8,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Checked {
    allowed: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Explained {
    allowed: bool,
    reason: String,
    #[serde(default)]
    detail: String,
    intention: Option<Intention>,
    #[serde(default)]
    beaten: Vec<Intention>,
    default: String,
    default_from: String,
}

impl IntentionCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Create(arguments) => arguments.run(client, output).await,
            Self::Check(pair) => pair.check(client, output).await,
            Self::Match { service, source } => list_matching(service, *source, client, output).await,
            Self::List => {
                let answer = client.read(ROUTE, &[]).await?;
                match output.format() {
                    Format::Json => output.json(&answer),
                    Format::Table => print(client.typed(ROUTE, &answer)?, output),
                }
            }
            Self::Delete(pair) => {
                client.delete(&pair.exact()).await?;
                match output.format() {
                    Format::Json => output.json(&json!({ "Deleted": pair.shown() })),
                    Format::Table => output.line(&format!("The intention {} is deleted.", visible(&pair.shown()))),
                }
            }
            Self::Explain(arguments) => arguments.run(client, output).await,
        }
    }
}

impl PairArgs {
    fn shown(&self) -> String {
        format!("{} => {}", self.source, self.destination)
    }

    fn exact(&self) -> String {
        format!("{ROUTE}/exact?source={}&destination={}", segment(&self.source), segment(&self.destination))
    }

    fn query(&self) -> Vec<(&'static str, String)> {
        vec![("source", self.source.clone()), ("destination", self.destination.clone())]
    }

    async fn check(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        let route = format!("{ROUTE}/check");
        let answer = client.read(&route, &self.query()).await?;
        if output.format() == Format::Json {
            return output.json(&answer);
        }
        let Checked { allowed } = client.typed(&route, &answer)?;
        output.line(&format!("{}: {}", visible(&self.shown()), word(allowed)))
    }
}

const fn word(is_allowed: bool) -> &'static str {
    if is_allowed { "allowed" } else { "denied" }
}

impl CreateArgs {
    async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        client.write(&self.pair.exact(), &self.body()?).await?;
        let route = format!("{ROUTE}/exact");
        let answer = client.read(&route, &self.pair.query()).await?;
        match output.format() {
            Format::Json => output.json(&answer),
            Format::Table => print(vec![client.typed(&route, &answer)?], output),
        }
    }

    fn body(&self) -> Result<Value, CliError> {
        let mut body = json!({ "Description": self.description });
        match &self.permissions {
            None => body["Action"] = json!(if self.allow { "allow" } else { "deny" }),
            Some(path) => {
                let unusable = |error: serde_json::Error| {
                    let what = format!("the permissions in {} cannot be read: {error}", path.display());
                    CliError::usage(
                        what,
                        "write a JSON list such as [{\"Action\":\"allow\",\"HTTP\":{\"PathPrefix\":\"/\"}}]",
                    )
                };
                body["Permissions"] = serde_json::from_slice(&files::read(path)?).map_err(unusable)?;
            }
        }
        Ok(body)
    }
}

impl ExplainArgs {
    async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        let mut query = self.pair.query();
        query.extend(self.path.iter().map(|path| ("path", path.clone())));
        query.extend(self.method.iter().map(|method| ("method", method.clone())));
        query.extend(self.headers.iter().map(|header| ("header", header.clone())));
        let answer = client.read(EXPLAIN_ROUTE, &query).await?;
        if output.format() == Format::Json {
            return output.json(&answer);
        }
        let explained: Explained = client.typed(EXPLAIN_ROUTE, &answer)?;
        output.line(&format!("{}: {}", visible(&self.pair.shown()), word(explained.allowed)))?;
        output.line(&visible(&explained.reason))?;
        if !explained.detail.is_empty() {
            output.line(&visible(&explained.detail))?;
        }
        let from = if explained.default_from == "acl" { "as ACLs have it" } else { "by default_intention_policy" };
        match (explained.intention, explained.beaten.is_empty()) {
            (None, _) => output.line("\nNo intention is about both.")?,
            (Some(_), true) => output.line("\nNo other intention is about both.")?,
            (Some(_), false) => {
                output.line("\nIt beats:")?;
                print(explained.beaten, output)?;
            }
        }
        output.line(&format!("Without an intention: {}, {from}.", visible(&explained.default)))
    }
}

async fn list_matching(
    service: &str,
    is_by_source: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let route = format!("{ROUTE}/match");
    let by = if is_by_source { "source" } else { "destination" };
    let mut answer = client.read(&route, &[("by", by.to_owned()), ("name", service.to_owned())]).await?;
    let found = answer.get_mut(service).map(Value::take).unwrap_or_else(|| json!([]));
    match output.format() {
        Format::Json => output.json(&found),
        Format::Table => print(client.typed(&route, &found)?, output),
    }
}

fn print(intentions: Vec<Intention>, output: &mut Output<'_>) -> Result<(), CliError> {
    let rows = intentions.into_iter().map(|row| {
        let says = match row.permissions.len() {
            0 => row.action,
            1 => "1 permission".into(),
            count => format!("{count} permissions"),
        };
        let precedence = row.precedence.to_string();
        [row.source_name, row.destination_name, says, precedence, or_dash(Some(row.description))]
    });
    output.table(["Source", "Destination", "Says", "Precedence", "Description"], rows)
}
