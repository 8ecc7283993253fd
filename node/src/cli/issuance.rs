//! `carrack issuance export`: the issuance log, its hash chain checked on the way. One record a line.

use std::time::Duration;

use carrack_authority::{
    acl::AccessorId,
    id::{Digest, NodeId},
    issuance::{EMPTY_HEAD, Grant, Holder, Issuance, Keeper, Review, link},
    spiffe::{Identity, Name},
    time::Timestamp,
};
use clap::{Args, Subcommand};
use serde_json::Value;

use super::{
    api::{IssuancePage, IssuanceRecord},
    client::Client,
    error::CliError,
    output::{Format, Output, visible},
};

const ROUTE: &str = "/v1/carrack/issuance";
/// Records a request: about a megabyte.
const PAGE_RECORDS: u64 = 1000;
/// How long a server waits for a new record before it answers with none.
const FOLLOW_WAIT: Duration = Duration::from_secs(60);

/// Reads the issuance log.
#[derive(Clone, Debug, Subcommand)]
pub enum IssuanceCommand {
    /// Print the unexpired records, oldest first, and check the hash chain through them
    Export(ExportArgs),
}

/// Which records to print.
#[derive(Clone, Debug, Args)]
pub struct ExportArgs {
    /// Go on as records are added
    #[arg(long)]
    pub follow: bool,
    /// Begin after this sequence number
    #[arg(long, value_name = "SEQUENCE", default_value_t = 0)]
    pub after: u64,
    /// Read from the asked server's own state, without its leader
    #[arg(long)]
    pub stale: bool,
}

impl IssuanceCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        let Self::Export(arguments) = self;
        Export { arguments, client, last: None, after: arguments.after }.run(output).await
    }
}

struct Export<'a> {
    arguments: &'a ExportArgs,
    client: &'a Client,
    /// The sequence and hash of the record before, if it was printed.
    last: Option<(u64, Digest)>,
    after: u64,
}

impl Export<'_> {
    async fn run(&mut self, output: &mut Output<'_>) -> Result<(), CliError> {
        loop {
            let page = self.page().await?;
            for record in &page.records {
                self.print(record, output)?;
            }
            output.flush()?;
            let is_end = page.records.is_empty() || self.after >= page.length;
            if is_end && !self.arguments.follow {
                return Ok(());
            }
        }
    }

    async fn page(&self) -> Result<IssuancePage, CliError> {
        let mut query = vec![("after", self.after.to_string()), ("limit", PAGE_RECORDS.to_string())];
        if self.arguments.stale {
            query.push(("stale", String::new()));
        }
        if self.arguments.follow {
            query.push(("wait", format!("{}s", FOLLOW_WAIT.as_secs())));
            return self.client.typed(ROUTE, &self.client.read_blocking(ROUTE, &query, FOLLOW_WAIT).await?);
        }
        self.client.typed(ROUTE, &self.client.read(ROUTE, &query).await?)
    }

    fn print(&mut self, answer: &Value, output: &mut Output<'_>) -> Result<(), CliError> {
        let record: IssuanceRecord = self.client.typed(ROUTE, answer)?;
        let hash = self.check(&record)?;
        self.last = Some((record.sequence, hash));
        // A server that answers the same record for ever must not make this loop for ever.
        self.after = self.after.max(record.sequence);
        match output.format() {
            Format::Json => output.json_line(answer),
            Format::Table => output.line(&visible(&format!(
                "{:>10}  {}  {}  {}  {}",
                record.sequence, record.recorded_at, record.serial, record.identity, record.grant
            ))),
        }
    }

    /// The record's hash, computed where the record before it is known; expired records leave gaps.
    fn check(&self, record: &IssuanceRecord) -> Result<Digest, CliError> {
        let unusable = |why: String| CliError::Certificate { what: format!("record {}", record.sequence), why };
        let shown: Digest = record.hash.parse().map_err(|error| unusable(format!("{error}")))?;
        let before = match self.last {
            _ if record.sequence == 1 => Some(EMPTY_HEAD),
            Some((sequence, hash)) if sequence + 1 == record.sequence => Some(hash),
            _ => None,
        };
        let Some(before) = before else { return Ok(shown) };
        let (issuance, recorded_at) = issuance(record).map_err(unusable)?;
        let computed = link(&before, record.sequence, record.index, recorded_at, &issuance);
        if computed == shown {
            return Ok(shown);
        }
        let (shown, computed) = (shown.to_string(), computed.to_string());
        Err(CliError::BrokenChain { sequence: record.sequence, shown, computed })
    }
}

/// The facts that the chain covers, from their printed form.
fn issuance(record: &IssuanceRecord) -> Result<(Issuance, Timestamp), String> {
    let bad = |error: &dyn std::fmt::Display| error.to_string();
    let issuance = Issuance {
        serial: record.serial.parse().map_err(|error| bad(&error))?,
        identity: identity(&record.identity)?.into(),
        grant: grant(&record.grant).ok_or_else(|| format!("`{}` is no grant", record.grant))?.into(),
        public_key: record.spki_digest.parse().map_err(|error| bad(&error))?,
        certificate: record.certificate_digest.parse().map_err(|error| bad(&error))?,
        not_before: timestamp(&record.not_before)?,
        not_after: timestamp(&record.not_after)?,
        issuer: record.issuer.parse().map_err(|error| bad(&error))?,
        holder: holder(&record.holder).ok_or_else(|| format!("`{}` is no holder", record.holder))?.into(),
        deadline: timestamp(&record.deadline)?,
    };
    Ok((issuance, timestamp(&record.recorded_at)?))
}

fn identity(text: &str) -> Result<Identity, String> {
    match text.starts_with("spiffe://") {
        true => text
            .parse()
            .map(Identity::Spiffe)
            .map_err(|error: carrack_authority::spiffe::SpiffeError| error.to_string()),
        false => Ok(Identity::LinkerdDns(text.into())),
    }
}

fn grant(text: &str) -> Option<Grant> {
    match text.split(' ').collect::<Vec<_>>().as_slice() {
        ["token", accessor] => Some(Grant::Token(accessor_id(accessor)?)),
        ["review", method, review] => {
            let review = Review { method: Name::parse("auth method", method).ok()?, digest: review.parse().ok()? };
            Some(Grant::Review(review.into()))
        }
        ["agent", node] => Some(Grant::Agent(Name::parse("node", node).ok()?)),
        _ => None,
    }
}

fn holder(text: &str) -> Option<Holder> {
    let (keeper, slot) = text.split_once(" slot ")?;
    let keeper = match keeper.split_once(' ')? {
        ("agent", node) => Keeper::Agent(Name::parse("node", node).ok()?),
        ("login", accessor) => Keeper::Login(accessor_id(accessor)?),
        ("server", node) => Keeper::Server(NodeId(node.parse().ok()?)),
        _ => return None,
    };
    Some(Holder { keeper, slot: slot.into() })
}

fn accessor_id(text: &str) -> Option<AccessorId> {
    uuid::Uuid::try_parse(text).ok().map(AccessorId)
}

fn timestamp(text: &str) -> Result<Timestamp, String> {
    let format = time::format_description::well_known::Rfc3339;
    let date = time::OffsetDateTime::parse(text, &format).map_err(|error| format!("`{text}` is no time: {error}"))?;
    Ok(Timestamp::from_date_time(date))
}

#[cfg(test)]
mod tests;
