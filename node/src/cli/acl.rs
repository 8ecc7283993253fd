//! `carrack acl bootstrap|token|policy`: who may do what.

use std::path::PathBuf;

use carrack_authority::spiffe::{Name, SpiffeError};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::{
    api::{AclPolicy, AclServiceIdentity, AclToken, segment},
    client::Client,
    error::CliError,
    files,
    output::{Format, Output, or_dash, visible},
    token::duration_text,
};

/// Decides who may do what.
#[derive(Clone, Debug, Subcommand)]
pub enum AclCommand {
    /// Make the first token, which may do everything: possible once
    Bootstrap,
    /// Make, show, list and delete tokens
    #[command(subcommand)]
    Token(TokenCommand),
    /// Make, show, list and delete policies
    #[command(subcommand)]
    Policy(PolicyCommand),
}

/// Tokens.
#[derive(Clone, Debug, Subcommand)]
pub enum TokenCommand {
    /// Make a token; its secret is shown only now
    Create(TokenCreateArgs),
    /// Show a token
    Read {
        /// Accessor id, or `self`
        #[arg(value_name = "ACCESSOR")]
        accessor: String,
    },
    /// List the tokens
    List,
    /// Delete a token: what it entitled is not renewed
    Delete {
        /// Accessor id
        #[arg(value_name = "ACCESSOR")]
        accessor: String,
    },
}

/// What a new token may do.
#[derive(Clone, Debug, Args)]
pub struct TokenCreateArgs {
    /// A note for people
    #[arg(long, default_value = "")]
    pub description: String,
    /// Name of a policy; may be given several times
    #[arg(long = "policy", value_name = "NAME")]
    pub policies: Vec<String>,
    /// A service that the token may be, as NAME or NAME:DC,DC; may be given several times
    #[arg(long = "service-identity", value_name = "NAME", value_parser = service_identity)]
    pub service_identities: Vec<ServiceIdentityArg>,
    /// Life of the token; default: it does not end
    #[arg(long, value_name = "DURATION", value_parser = duration_text)]
    pub ttl: Option<String>,
    /// Keep the token in this datacenter
    #[arg(long)]
    pub local: bool,
}

/// A service and the datacenters in which a token may be it.
#[derive(Clone, Debug)]
pub struct ServiceIdentityArg {
    service: Name,
    datacenters: Vec<String>,
}

fn service_identity(text: &str) -> Result<ServiceIdentityArg, SpiffeError> {
    let (service, datacenters) = text.split_once(':').unwrap_or((text, ""));
    let names = datacenters.split(',').filter(|name| !name.is_empty());
    let datacenters = names.map(|name| Name::parse("datacenter", name).map(|name| name.to_string()));
    Ok(ServiceIdentityArg {
        service: Name::parse("service", service)?,
        datacenters: datacenters.collect::<Result<_, _>>()?,
    })
}

/// Policies.
#[derive(Clone, Debug, Subcommand)]
pub enum PolicyCommand {
    /// Make a policy
    Create(PolicyCreateArgs),
    /// Show a policy
    Read {
        /// Name or id
        #[arg(value_name = "POLICY")]
        policy: String,
    },
    /// List the policies
    List,
    /// Delete a policy
    Delete {
        /// Name or id
        #[arg(value_name = "POLICY")]
        policy: String,
    },
}

/// What a new policy says.
#[derive(Clone, Debug, Args)]
pub struct PolicyCreateArgs {
    /// Name of the policy
    #[arg(long)]
    pub name: String,
    /// A note for people
    #[arg(long, default_value = "")]
    pub description: String,
    /// The rules in HCL, such as 'service "web" { policy = "write" }'
    #[arg(long, value_name = "HCL", required_unless_present = "rules_file", conflicts_with = "rules_file")]
    pub rules: Option<String>,
    /// File with the rules
    #[arg(long, value_name = "FILE")]
    pub rules_file: Option<PathBuf>,
}

impl AclCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Bootstrap => {
                let answer = client.write("/v1/acl/bootstrap", &json!({})).await?;
                print_new_token(&answer, client, output)
            }
            Self::Token(command) => command.run(client, output).await,
            Self::Policy(command) => command.run(client, output).await,
        }
    }
}

impl TokenCommand {
    async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Create(arguments) => {
                let answer = client.write("/v1/acl/token", &arguments.body()).await?;
                print_new_token(&answer, client, output)
            }
            Self::Read { accessor } => {
                let route = token_route(accessor);
                let answer = client.read(&route, &[]).await?;
                match output.format() {
                    Format::Json => output.json(&answer),
                    Format::Table => print_token(client.typed(&route, &answer)?, output),
                }
            }
            Self::List => list_tokens(client, output).await,
            Self::Delete { accessor } => {
                client.delete(&token_route(accessor)).await?;
                deleted("token", accessor, output)
            }
        }
    }
}

fn token_route(accessor: &str) -> String {
    format!("/v1/acl/token/{}", segment(accessor))
}

impl TokenCreateArgs {
    fn body(&self) -> Value {
        let policies: Vec<_> = self.policies.iter().map(|name| json!({ "Name": name })).collect();
        let identities = self.service_identities.iter();
        let identities: Vec<_> =
            identities.map(|of| json!({ "ServiceName": of.service.as_str(), "Datacenters": of.datacenters })).collect();
        let mut body = json!({
            "Description": self.description,
            "Policies": policies,
            "ServiceIdentities": identities,
            "Local": self.local,
        });
        if let Some(ttl) = &self.ttl {
            body["ExpirationTTL"] = json!(ttl);
        }
        body
    }
}

fn print_new_token(answer: &Value, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.format() == Format::Json {
        return output.json(answer);
    }
    print_token(client.typed("PUT /v1/acl", answer)?, output)?;
    output.line("\nThe secret is shown only now. To act with it: export CARRACK_TOKEN=<SecretID>")
}

fn print_token(token: AclToken, output: &mut Output<'_>) -> Result<(), CliError> {
    output.facts([
        ("AccessorID", Some(token.accessor_id.clone())),
        ("SecretID", Some(token.secret_id.clone()).filter(|secret| !secret.is_empty())),
        ("Description", Some(token.description.clone()).filter(|text| !text.is_empty())),
        ("Policies", some_lines(policies(&token))),
        ("Services", some_lines(services(&token))),
        ("Made", Some(token.create_time).filter(|time| !time.is_empty())),
        ("Valid until", token.expiration_time),
    ])
}

async fn list_tokens(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read("/v1/acl/tokens", &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let tokens: Vec<AclToken> = client.typed("/v1/acl/tokens", &answer)?;
    let rows = tokens.into_iter().map(|token| {
        let (policies, services) = (policies(&token).join(", "), services(&token).join(", "));
        let end = or_dash(token.expiration_time);
        [token.accessor_id, token.description, or_dash(Some(policies)), or_dash(Some(services)), end]
    });
    output.table(["AccessorID", "Description", "Policies", "Services", "Valid until"], rows)
}

fn policies(token: &AclToken) -> Vec<String> {
    let links = token.policies.iter().flatten();
    links.map(|link| if link.name.is_empty() { link.id.clone() } else { link.name.clone() }).collect()
}

fn services(token: &AclToken) -> Vec<String> {
    token.service_identities.iter().flatten().map(service).collect()
}

fn service(identity: &AclServiceIdentity) -> String {
    match identity.datacenters.as_deref() {
        None | Some([]) => identity.service_name.clone(),
        Some(datacenters) => format!("{} in {}", identity.service_name, datacenters.join(", ")),
    }
}

fn some_lines(lines: Vec<String>) -> Option<String> {
    Some(lines.join("\n")).filter(|lines| !lines.is_empty())
}

impl PolicyCommand {
    async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Create(arguments) => {
                let answer = client.write("/v1/acl/policy", &arguments.body()?).await?;
                print_policy(&answer, client, output)
            }
            Self::Read { policy } => {
                let answer = client.read(&policy_route(policy), &[]).await?;
                print_policy(&answer, client, output)
            }
            Self::List => list_policies(client, output).await,
            Self::Delete { policy } => {
                let route = policy_route(policy);
                // Consul deletes by id only.
                let found: AclPolicy = client.typed(&route, &client.read(&route, &[]).await?)?;
                client.delete(&format!("/v1/acl/policy/{}", segment(&found.id))).await?;
                deleted("policy", policy, output)
            }
        }
    }
}

fn policy_route(policy: &str) -> String {
    match uuid::Uuid::try_parse(policy) {
        Ok(id) => format!("/v1/acl/policy/{id}"),
        Err(_) => format!("/v1/acl/policy/name/{}", segment(policy)),
    }
}

impl PolicyCreateArgs {
    fn body(&self) -> Result<Value, CliError> {
        let rules = match (&self.rules, &self.rules_file) {
            (Some(rules), _) => rules.clone(),
            (None, Some(path)) => String::from_utf8_lossy(&files::read(path)?).into_owned(),
            (None, None) => return Err(CliError::usage("the policy has no rules", "give --rules or --rules-file")),
        };
        Ok(json!({ "Name": self.name, "Description": self.description, "Rules": rules }))
    }
}

fn print_policy(answer: &Value, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.format() == Format::Json {
        return output.json(answer);
    }
    let policy: AclPolicy = client.typed("/v1/acl/policy", answer)?;
    output.facts([
        ("ID", Some(policy.id)),
        ("Name", Some(policy.name)),
        ("Description", Some(policy.description).filter(|text| !text.is_empty())),
        ("Datacenters", some_lines(policy.datacenters.unwrap_or_default())),
    ])?;
    output.line(&format!("\n{}", visible(policy.rules.trim_end())))
}

async fn list_policies(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read("/v1/acl/policies", &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let policies: Vec<AclPolicy> = client.typed("/v1/acl/policies", &answer)?;
    let rows = policies.into_iter().map(|policy| [policy.id, policy.name, policy.description]);
    output.table(["ID", "Name", "Description"], rows)
}

fn deleted(what: &str, name: &str, output: &mut Output<'_>) -> Result<(), CliError> {
    match output.format() {
        Format::Json => output.json(&json!({ "Deleted": name })),
        Format::Table => output.line(&format!("The {what} {} is deleted.", visible(name))),
    }
}
