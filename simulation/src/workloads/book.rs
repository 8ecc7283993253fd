//! What clients have received and done, as far as invariants ask for it later.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::Arc,
};

use carrack::server::join_token::JoinTokenText;
use carrack_authority::{id::Serial, key::Der, spiffe::TrustDomain, time::Timestamp};
use serde_json::Value;

use super::{generations::Generations, handshake::LeafKey, prober::Bundle};
use crate::{
    oracle::{
        client::ClientOracle,
        history::{self, Action, Begun, History, Outcome},
        linearizability,
    },
    world::shared::Shared,
};

/// A leaf that a client has received.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// The identity in it.
    pub(crate) identity: String,
    /// The host of the client that holds it.
    pub(crate) holder: String,
    /// Its key.
    pub(crate) key: LeafKey,
    /// The certificate.
    pub(crate) certificate: Der,
    /// What it is served with.
    pub(crate) chain: Vec<Der>,
    /// Its last second.
    pub(crate) not_after: Timestamp,
}

/// What the operator has set in the CA configuration.
#[derive(Clone, Debug, Default)]
pub(crate) struct Configured {
    /// The value of each key; none: it is being set, or it is not known whether it was.
    keys: BTreeMap<String, Option<Value>>,
    /// How often something of this has changed.
    pub(crate) changes: u64,
}

impl Configured {
    /// The operator sets a key now; `None`: how that ends is not known yet.
    pub(crate) fn set(&mut self, key: &str, value: Option<Value>) {
        self.keys.insert(key.to_owned(), value);
        self.changes += 1;
    }

    /// The keys whose values are known.
    pub(crate) fn known(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.keys.iter().filter_map(|(key, value)| Some((key.as_str(), value.as_ref()?)))
    }
}

/// See the module.
#[derive(Default)]
pub(crate) struct Book {
    /// Whether every first server of every datacenter votes and issues.
    pub(crate) is_formed: bool,
    /// The secondaries that have issued without the primary, or have said why they cannot.
    pub(crate) stood_alone: BTreeSet<usize>,
    /// The datacenters in which the operator has read and written since the world was healed.
    pub(crate) has_proved_life: BTreeSet<usize>,
    /// Whether every register was read since the world was healed.
    pub(crate) has_read_registers: bool,
    /// Every leaf that a client has received.
    pub(crate) leaves: BTreeMap<Serial, Leaf>,
    /// The one that each host received last for each identity.
    pub(crate) newest: BTreeMap<(String, String), Serial>,
    /// The join tokens with which servers of the primary have become voters.
    pub(crate) used_join_tokens: Vec<JoinTokenText>,
    /// The services and secrets of tokens whose deletion was answered.
    pub(crate) deleted_tokens: Vec<(String, String)>,
    /// The roots that each client's host trusts.
    pub(crate) bundles: BTreeMap<String, Bundle>,
    /// Which root came after which.
    pub(crate) generations: Generations,
    /// The trust domain, once a client has seen it.
    pub(crate) trust_domain: Option<TrustDomain>,
    /// What the operator has set in the CA configuration.
    pub(crate) configured: Configured,
    /// What was done to registers.
    pub(crate) history: History,
    oracle: ClientOracle,
    values: u64,
    /// The secrets of tokens that entitle to a service, by service.
    pub(crate) service_tokens: BTreeMap<String, String>,
    /// The pairs of services whose intentions were written last.
    pub(crate) written_pairs: VecDeque<(String, String)>,
    /// Agents' hosts, each with its start, that have come to rest.
    pub(crate) rested_agents: BTreeSet<(String, u32)>,
    /// Why others have not, at the last look.
    pub(crate) restless_agents: BTreeMap<(String, u32), String>,
}

impl Book {
    /// Notes a leaf that a client has received.
    pub(crate) fn receive(&mut self, serial: Serial, leaf: Leaf) {
        self.newest.insert((leaf.identity.clone(), leaf.holder.clone()), serial);
        self.leaves.insert(serial, leaf);
    }

    /// A value that nobody has written before.
    pub(crate) fn new_value(&mut self) -> history::Value {
        self.values += 1;
        history::Value(self.values)
    }

    /// Notes that an operation on a register begins.
    pub(crate) fn begin(&mut self, shared: &Shared, client: &Arc<str>, key: &Arc<str>, action: Action) -> Begun {
        let begun = self.history.begin(client, key, action, nanoseconds(shared));
        if let Err(violation) = self.oracle.begin(&begun) {
            shared.violate("client_oracle", violation.to_string());
        }
        begun
    }

    /// Notes how an operation on a register ended.
    pub(crate) fn finish(&mut self, shared: &Shared, begun: &Begun, outcome: Outcome) {
        let Some(operation) = self.history.finish(begun.id, outcome, nanoseconds(shared)) else { return };
        if let Err(violation) = self.oracle.finish(&operation) {
            shared.violate("client_oracle", violation.to_string());
        }
    }

    /// Checks the whole history of registers, when nothing more happens to them.
    pub(crate) fn check_history(&mut self, shared: &Shared) {
        self.history.close(nanoseconds(shared));
        if let Err(failure) = linearizability::check(&self.history) {
            shared.violate("linearizability", failure.to_string());
        }
    }
}

fn nanoseconds(shared: &Shared) -> u64 {
    shared.clock.micros() * 1000
}
