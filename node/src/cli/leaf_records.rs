//! `carrack leaf list|revoke|revoked`: the leaves that a datacenter has issued, and those that are refused everywhere.

use clap::Args;
use serde::Deserialize;
use serde_json::json;

use super::{
    client::Client,
    error::CliError,
    output::{Format, Output, or_dash, visible},
};

const LEAVES: &str = "/v1/carrack/leaves";
const REVOCATION: &str = "/v1/carrack/revocation";
const REVOCATIONS: &str = "/v1/carrack/revocations";

/// Which leaves.
#[derive(Clone, Debug, Args)]
pub struct LeafListArgs {
    /// Of this service
    #[arg(long, value_name = "NAME")]
    pub service: Option<String>,
    /// By the right of this token, by its public id
    #[arg(long, value_name = "ID")]
    pub token: Option<String>,
    /// Signed by this issuer, by its key id
    #[arg(long, value_name = "ID")]
    pub issuer: Option<String>,
    /// Under this root, by its key id
    #[arg(long, value_name = "ID")]
    pub root: Option<String>,
    /// Of this datacenter; default: the server's
    #[arg(long, value_name = "NAME")]
    pub datacenter: Option<String>,
}

/// Which leaf, and why.
#[derive(Clone, Debug, Args)]
pub struct LeafRevokeArgs {
    /// Serial number of the leaf
    #[arg(value_name = "SERIAL")]
    pub serial: String,
    /// Why, for people
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// When the leaf ends (RFC 3339); needed where this datacenter has not issued it
    #[arg(long, value_name = "TIME")]
    pub until: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Leaves {
    leaves: Vec<Leaf>,
    is_cut: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Leaf {
    serial_number: String,
    identity: String,
    grant: String,
    holder: String,
    root: Option<String>,
    not_after: String,
    superseded: bool,
    revoked: bool,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Revoked {
    serial_number: String,
    until: String,
    reason: String,
    revoked_at: String,
}

/// Prints the unexpired leaves, the newest first.
pub(super) async fn list(wanted: &LeafListArgs, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let query = [
        ("service", &wanted.service),
        ("accessor", &wanted.token),
        ("issuer", &wanted.issuer),
        ("root", &wanted.root),
        ("dc", &wanted.datacenter),
    ];
    let query: Vec<(&str, String)> =
        query.into_iter().filter_map(|(name, value)| Some((name, value.clone()?))).collect();
    let answer = client.read(LEAVES, &query).await?;
    if output.format() == Format::Json {
        return output.json(&answer["Leaves"]);
    }
    let found: Leaves = client.typed(LEAVES, &answer)?;
    let rows = found.leaves.into_iter().map(|leaf| {
        let standing = match (leaf.revoked, leaf.superseded) {
            (true, _) => "revoked",
            (false, true) => "superseded",
            (false, false) => "current",
        };
        [
            leaf.serial_number,
            leaf.identity,
            leaf.grant,
            leaf.holder,
            or_dash(leaf.root),
            leaf.not_after,
            standing.into(),
        ]
    });
    output.table(["Serial", "Identity", "By", "Held by", "Root", "Valid until", "Standing"], rows)?;
    match found.is_cut {
        true => output.line("\nThere are more: narrow it down with --service, --token, --issuer or --root."),
        false => Ok(()),
    }
}

/// Revokes a leaf: its end is looked up where it was issued.
pub(super) async fn revoke(
    arguments: &LeafRevokeArgs,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let until = match &arguments.until {
        Some(until) => Some(until.clone()),
        None => {
            let answer = client.read(LEAVES, &[("serial", arguments.serial.clone())]).await?;
            let found: Leaves = client.typed(LEAVES, &answer)?;
            found.leaves.into_iter().next().map(|leaf| leaf.not_after)
        }
    };
    let mut body = json!({ "SerialNumber": arguments.serial, "Reason": arguments.reason });
    if let Some(until) = &until {
        body["NotAfter"] = json!(until);
    }
    client.write(REVOCATION, &body).await?;
    if output.format() == Format::Json {
        return output.json(&json!({ "Revoked": arguments.serial }));
    }
    let serial = visible(&arguments.serial);
    output
        .line(&format!("The leaf {serial} is revoked: `authorize` refuses it in every datacenter that hears of it."))?;
    output.line("Whoever verifies certificates without asking goes on trusting it until it ends; delete its token, so that it is not renewed.")
}

/// Prints what is revoked.
pub(super) async fn revoked(client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
    let answer = client.read(REVOCATIONS, &[]).await?;
    if output.format() == Format::Json {
        return output.json(&answer);
    }
    let revoked: Vec<Revoked> = client.typed(REVOCATIONS, &answer)?;
    let rows = revoked.into_iter().map(|it| [it.serial_number, it.revoked_at, it.until, it.reason]);
    output.table(["Serial", "Revoked", "Ends", "Reason"], rows)
}
