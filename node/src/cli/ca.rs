//! `carrack ca`: the mesh's CA. Rotations have a file of their own.

use std::path::PathBuf;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    api::Roots,
    client::Client,
    error::CliError,
    files,
    inspect::Certificate,
    output::{Format, Output, visible, yes_or_no},
    rotation::{self, RotateArguments},
    rotation_watch::ProbeArguments,
};

const ROOTS: &str = "/v1/connect/ca/roots";
const CONFIGURATION: &str = "/v1/connect/ca/configuration";
const HALT: &str = "/v1/carrack/halt";
const ISSUER_REVOCATION: &str = "/v1/carrack/issuer-revocation";
const ISSUER_REVOCATIONS: &str = "/v1/carrack/issuer-revocations";

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RevokedIssuer {
    #[serde(rename = "IssuerID")]
    issuer: String,
    #[serde(rename = "RootID")]
    root: String,
    until: String,
    reason: String,
    revoked_at: String,
}

/// Shows and steers the CA.
#[derive(Clone, Debug, Subcommand)]
pub enum CaCommand {
    /// List the roots to trust
    Roots {
        /// Print the certificates in PEM, for a file
        #[arg(long)]
        pem: bool,
    },
    /// Show the CA's configuration, or change keys of it
    Config {
        /// Keys to change, such as LeafCertTTL=24h or PrivateKeyType=rsa; KEY=@FILE takes a file's text, such as PrivateKey=@root.key
        #[arg(value_name = "KEY=VALUE", value_parser = key_value)]
        changes: Vec<(String, String)>,
        /// Also with a kind of key that some verifiers do not take
        #[arg(long)]
        yes: bool,
    },
    /// Say in words what certificates contain
    Inspect {
        /// PEM files; default: the roots of the server
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
    },
    /// Stop issuing leaves in the whole datacenter
    Halt,
    /// Issue again
    Unhalt,
    /// Rotate the root: the new one is published, waited for, activated; the former one drains and goes
    Rotate(RotateArguments),
    /// Show the roots, what is left under each, and the rotation with what it waits for
    Status {
        /// Until the rotation is over and the former root has drained
        #[arg(long)]
        watch: bool,
        /// What connects meanwhile.
        #[command(flatten)]
        probes: ProbeArguments,
    },
    /// Let the rotation under way stop before it activates
    Pause,
    /// Let it go on
    Resume,
    /// Take the rotation under way, or the last one, back
    Rollback,
    /// Mark a retired root as not to be relied on, in every datacenter: its leaves are renewed now
    Taint {
        /// Its id, as `carrack ca status` shows it
        #[arg(long, value_name = "ID")]
        root: String,
        /// Why, for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
    },
    /// Set how often the root is rotated by itself
    Schedule {
        /// Such as 2160h, or `off`
        #[arg(value_name = "PERIOD")]
        period: String,
    },
    /// Revoke an issuer, a retired root, or all that a compromised server had, in every datacenter: what is under it is refused and renewed
    Revoke {
        /// The issuer's id, as `carrack status` shows it
        #[arg(long, value_name = "ID", required_unless_present_any = ["root", "server"], conflicts_with_all = ["root", "server"])]
        issuer: Option<String>,
        /// A server that is in other hands: its issuers are revoked, it is removed, and the root is rotated without a bridge. By name or id;
        /// one of another datacenter by DATACENTER/ID
        #[arg(long, value_name = "SERVER", conflicts_with = "root")]
        server: Option<String>,
        /// The root's id, as `carrack ca status` shows it
        #[arg(long, value_name = "ID")]
        root: Option<String>,
        /// Why, for people
        #[arg(long, value_name = "TEXT", default_value = "")]
        reason: String,
        /// Also while leaves under it are in use
        #[arg(long)]
        force: bool,
    },
    /// List the revoked issuers
    Revoked,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err("write KEY=VALUE, for example LeafCertTTL=24h".into()),
    }
}

impl CaCommand {
    /// Whether the command needs a server.
    pub fn is_local(&self) -> bool {
        matches!(self, Self::Inspect { files } if !files.is_empty())
    }

    /// Runs the command with a server.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Roots { pem: true } => output.text(&pem(client).await?),
            Self::Roots { pem: false } => roots(client, output).await,
            Self::Config { changes, .. } if changes.is_empty() => {
                show_configuration(&client.read(CONFIGURATION, &[]).await?, output)
            }
            Self::Config { changes, yes } => change_configuration(changes, *yes, client, output).await,
            Self::Inspect { files } if files.is_empty() => {
                let what = format!("the roots of {}", client.address());
                print(&Certificate::read_all(&what, pem(client).await?.as_bytes())?, output)
            }
            Self::Inspect { .. } => self.run_local(output),
            Self::Halt => halt(true, client, output).await,
            Self::Unhalt => halt(false, client, output).await,
            Self::Rotate(arguments) => rotation::rotate(arguments, client, output).await,
            Self::Status { watch, probes } => rotation::status(*watch, probes, client, output).await,
            Self::Pause => rotation::steer("pause", client, output).await,
            Self::Resume => rotation::steer("resume", client, output).await,
            Self::Rollback => rotation::roll_back(client, output).await,
            Self::Taint { root, reason } => rotation::taint(root, reason, client, output).await,
            Self::Schedule { period } => rotation::schedule(period, client, output).await,
            Self::Revoke { server: Some(server), reason, .. } => {
                rotation::revoke_server(server, reason, client, output).await
            }
            Self::Revoke { root: Some(root), reason, force, .. } => {
                rotation::revoke_root(root, reason, *force, client, output).await
            }
            Self::Revoke { issuer, reason, force, .. } => {
                revoke(issuer.as_deref().unwrap_or_default(), reason, *force, client, output).await
            }
            Self::Revoked => revoked(client, output).await,
        }
    }

    /// Runs the command without a server.
    pub fn run_local(&self, output: &mut Output<'_>) -> Result<(), CliError> {
        let Self::Inspect { files } = self else { return Ok(()) };
        let mut certificates = Vec::new();
        for path in files {
            certificates.extend(Certificate::read_all(&path.display().to_string(), &files::read(path)?)?);
        }
        print(&certificates, output)
    }
}

async fn pem(client: &Client) -> Result<String, CliError> {
    client.read_text(ROOTS, &[("pem", "true".into())]).await
}

async fn roots(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(ROOTS, &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let roots: Roots = client.typed(ROOTS, &answer)?;
    output.line(&format!("Trust domain {}\n", visible(&roots.trust_domain)))?;
    let rows = roots.roots.into_iter().map(|root| {
        let bridges = root.intermediate_certs.unwrap_or_default().len();
        let key = format!("{} {}", root.private_key_type, root.private_key_bits);
        [root.id, yes_or_no(root.active), key, root.not_before, root.not_after, bridges.to_string()]
    });
    output.table(["Id", "Active", "Key", "Valid from", "Valid until", "Bridges"], rows)
}

fn show_configuration(answer: &Value, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.format() == Format::Json {
        return output.json(answer);
    }
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let provider = answer.get("Provider").map(|provider| ["Provider".to_owned(), text(provider)]);
    let config = answer.get("Config").and_then(Value::as_object).into_iter().flatten();
    let rows = config.map(|(key, value)| [key.clone(), text(value)]);
    output.table(["Key", "Value"], provider.into_iter().chain(rows))
}

/// The keys of a root. They are written only when they are to change: as they were read they would undo a rotation that began meanwhile.
const OF_ROOTS: [&str; 3] = ["PrivateKeyType", "PrivateKeyBits", "RotationPeriod"];

/// What a change of a life means for what is out already.
const EFFECTS: [(&str, &str); 3] = [
    (
        "LeafCertTTL",
        "leaves that are issued from now on live so long, or to the end of their issuer; those that are out keep their ends.",
    ),
    (
        "IntermediateCertTTL",
        "the next issuer of each server lives so long, or to the end of its root; those that sign now are renewed at half of theirs.",
    ),
    ("RootCertTTL", "the next root lives so long: `carrack ca rotate` makes one now."),
];

/// What the changes from one configuration to another mean.
fn effects(before: &Value, after: &Value) -> Vec<String> {
    let changed = EFFECTS.iter().filter(|(key, _)| before[key] != after[key]);
    changed.map(|(key, effect)| format!("\n{key}: {effect}")).collect()
}

/// Reads the configuration, changes the keys in it and writes the whole back: the API replaces it as a whole.
async fn change_configuration(
    changes: &[(String, String)],
    yes: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let asks_for = |key: &str, is_one: &dyn Fn(&str) -> bool| {
        changes.iter().any(|(found, value)| found.eq_ignore_ascii_case(key) && is_one(value))
    };
    if asks_for("PrivateKey", &|value| !value.is_empty() && !value.starts_with('@')) {
        return Err(CliError::Usage {
            what: "a private key on the command line is seen by everybody on this machine".into(),
            next: "put it into a file that only you can read, and say PrivateKey=@FILE".into(),
        });
    }
    if asks_for("PrivateKeyType", &|value| value == "ed25519") && !yes {
        return Err(rotation::ed25519_needs_yes());
    }
    // A secondary knows nothing of the schedule: what is changed is the primary's.
    let primary = rotation::primary(client).await?;
    let of_primary: Vec<(&str, String)> = primary.map(|primary| ("dc", primary)).into_iter().collect();
    let mut configuration = client.read(CONFIGURATION, &of_primary).await?;
    let read = configuration["Config"].clone();
    if let Some(config) = configuration["Config"].as_object_mut() {
        config.retain(|key, _| !OF_ROOTS.contains(&key.as_str()));
    }
    for (key, value) in changes {
        let text = value.strip_prefix('@').map(text_of_file).transpose()?;
        let value = text.as_ref().unwrap_or(value);
        let is_number = read.get(key).is_some_and(Value::is_number);
        configuration["Config"][key.as_str()] = match value.parse::<u64>() {
            Ok(number) if is_number => json!(number),
            _ => json!(value),
        };
    }
    let body = json!({ "Provider": configuration["Provider"], "Config": configuration["Config"] });
    client.write(CONFIGURATION, &body).await?;
    let written = client.read(CONFIGURATION, &of_primary).await?;
    show_configuration(&written, output)?;
    if output.format() == Format::Table {
        effects(&read, &written["Config"]).iter().try_for_each(|line| output.line(line))?;
    }
    rotation::tell_under_way(client, output).await
}

fn text_of_file(path: &str) -> Result<String, CliError> {
    String::from_utf8(files::read(path.as_ref())?).map_err(|_| CliError::Usage {
        what: format!("the file {path} is no text"),
        next: "give a file in PEM, as `openssl pkey -in FILE` and `openssl x509 -in FILE` write it".into(),
    })
}

async fn halt(halted: bool, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    client.write(HALT, &json!({ "Halted": halted })).await?;
    match (output.format(), halted) {
        (Format::Json, _) => output.json(&json!({ "Halted": halted })),
        (Format::Table, true) => {
            output.line("Issuing is halted: no leaf is recorded or released until `carrack ca unhalt`.")
        }
        (Format::Table, false) => output.line("Issuing goes on."),
    }
}

async fn revoke(
    issuer: &str,
    reason: &str,
    force: bool,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    client.write(ISSUER_REVOCATION, &json!({ "IssuerID": issuer, "Reason": reason, "Force": force })).await?;
    match output.format() {
        Format::Json => output.json(&json!({ "Revoked": issuer })),
        Format::Table => output.line(&format!(
            "The issuer {} is revoked in every datacenter: it signs nothing more, its server makes another one, and agents renew its leaves.\n\
             Until its root is replaced, `authorize` denies whoever comes without ClientCert.",
            visible(issuer)
        )),
    }
}

async fn revoked(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(ISSUER_REVOCATIONS, &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let all: Vec<RevokedIssuer> = client.typed(ISSUER_REVOCATIONS, &answer)?;
    let rows = all.into_iter().map(|it| [it.issuer, it.root, it.revoked_at, it.until, it.reason]);
    output.table(["Issuer", "Root", "Revoked at", "Ends", "Reason"], rows)
}

fn print(certificates: &[Certificate], output: &mut Output<'_>) -> Result<(), CliError> {
    if output.format() == Format::Json {
        return output.json(&certificates);
    }
    for (position, certificate) in certificates.iter().enumerate() {
        if position > 0 {
            output.line("")?;
        }
        certificate.print(output)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_life_says_what_it_means_for_what_is_out() {
        let before = json!({ "LeafCertTTL": "72h", "RootCertTTL": "87600h", "CSRMaxPerSecond": 0 });
        let after = json!({ "LeafCertTTL": "24h", "RootCertTTL": "87600h", "CSRMaxPerSecond": 9 });
        let said = effects(&before, &after);
        assert!(said.len() == 1 && said[0].contains("LeafCertTTL: leaves that are issued from now on"), "{said:?}");
        assert_eq!(effects(&before, &before), Vec::<String>::new());
    }
}
