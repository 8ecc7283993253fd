//! `carrack ca rotate --plan`: the steps of a rotation from where the cluster is now, and what each needs. Nothing is changed.

use carrack_authority::plan::reissue::per_second;
use serde_json::json;

use super::{
    client::Client,
    error::CliError,
    output::{Format, Output, visible},
    rotation::{CaStatus, Root, RotateArguments, fetch_of_primary},
};

pub(super) async fn show(
    arguments: &RotateArguments,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), CliError> {
    let (status, answer) = fetch_of_primary(client).await?;
    let servers = client.read("/v1/carrack/members", &[]).await?.as_array().map_or(0, Vec::len);
    let configuration = client.read("/v1/connect/ca/configuration", &[]).await?;
    let set = configuration["Config"]["CSRMaxPerSecond"].as_u64().unwrap_or_default();
    let per_second = per_second(u32::try_from(set).unwrap_or(u32::MAX));
    let key = arguments.key_type.clone().unwrap_or_else(|| "the configured key".into());
    let active = status.roots.iter().find(|root| root.phase == "active");
    if output.format() == Format::Json {
        let in_use: u64 = active.into_iter().flat_map(|root| &root.leaves).map(|left| left.current).sum();
        return output.json(&json!({
            "Status": answer, "KeyType": key, "Servers": servers, "LeavesToReissue": in_use, "LeavesPerSecond": per_second,
        }));
    }
    let plan = Plan { status: &status, active, key, servers, per_second, is_bridged: !arguments.without_cross_signing };
    plan.lines().iter().try_for_each(|line| output.line(line))
}

struct Plan<'a> {
    status: &'a CaStatus,
    active: Option<&'a Root>,
    key: String,
    servers: usize,
    per_second: u64,
    is_bridged: bool,
}

impl Plan<'_> {
    fn lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        if let Some(rotation) = &self.status.rotation {
            lines.push(format!("Rotation {} is under way: another one is refused until it is over.", rotation.id));
        }
        let datacenters: Vec<&str> = self.status.datacenters.iter().map(|it| it.name.as_str()).collect();
        let (key, servers, all) = (visible(&self.key), self.servers, visible(&datacenters.join(", ")));
        lines.push(format!("From root {}:", self.active.map_or_else(|| "-".into(), |root| visible(&root.id))));
        lines.push(format!("  1. A new root with {key} is made and published in {all}."));
        lines.push(match self.is_bridged {
            true => "  2. The former root cross-signs it: a leaf is served with its issuer and that bridge, 3 certificates, while it lasts.",
            false => "  2. No bridge: a leaf is served with its issuer, 2 certificates, and who knows the former root alone fails from step 5 on.",
        }
        .to_owned());
        lines.push("  3. Every agent that answers takes it into its bundle by itself, and its server says so; nobody else has to reload.".into());
        lines.extend(self.without_agent());
        lines.push(format!(
            "  4. {servers} servers here, and those of each other datacenter, send a CSR each for an issuer under it, with a key of that kind too."
        ));
        lines.push("  5. It becomes active in the primary, and in each other datacenter when that is ready.".into());
        lines.push("  6. Leaves that are in use are issued anew, each at a moment of its own:".into());
        lines.extend(self.reissued());
        lines.push("  7. The former root leaves the bundle when the last leaf under it has ended; `carrack ca rollback` works until then.".into());
        lines
    }

    /// Verifiers that no server knows of.
    fn without_agent(&self) -> Option<String> {
        let since = &self.active.filter(|_| self.is_bridged)?.since;
        Some(format!(
            "     Verifiers without an agent have the bridge alone: those that have not fetched the bundle since {} fail from step 5 on.",
            visible(since)
        ))
    }

    fn reissued(&self) -> Vec<String> {
        let leaves = self.active.into_iter().flat_map(|root| &root.leaves);
        let line = |(name, current): (String, u64)| {
            let seconds = current.div_ceil(self.per_second);
            format!("       {name}: {current} within about {seconds} s ({} a second)", self.per_second)
        };
        leaves.map(|left| line((visible(&left.datacenter).to_string(), left.current))).collect()
    }
}
