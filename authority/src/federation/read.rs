//! What follows next in a table, for someone who has followed it up to a cursor. Pure: the same state and cursor give the same answer.

use uuid::Uuid;

use super::{CaTable, Change, Cursor, Datacenter, History, Page, Table};
use crate::{
    State,
    acl::{AccessorId, Policy, PolicyId, Token},
    id::Revision,
    outcome::WatchKey,
    root::{Ca, Root},
    time::Timestamp,
};

/// The most records of one change.
const RECORDS_MAX: usize = 512;
/// A change has about this many bytes and one record more: it is one value in the follower's log.
const BYTES_MAX: usize = 128 * 1024;
/// What follows a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// What changed.
    pub change: Change,
    /// Where the follower is then.
    pub to: Cursor,
}

/// The tables of the state in which a change may be one of this table.
pub const fn table_keys(table: Table) -> &'static [WatchKey] {
    match table {
        Table::Ca => &[WatchKey::Roots(Ca::Mesh), WatchKey::CaConfig],
        Table::Datacenters => &[WatchKey::Datacenters, WatchKey::Members, WatchKey::Roots(Ca::Server)],
        Table::Policies => &[WatchKey::Policies],
        Table::Tokens => &[WatchKey::Tokens],
    }
}

/// What follows `from` in a table of this state; `None` if nothing does.
pub fn next(state: &State, table: Table, from: &Cursor) -> Option<Next> {
    let cluster = state.cluster()?;
    match table {
        Table::Ca => whole(state, table, from, || {
            let roots = state.roots(Ca::Mesh).bundle().iter().map(|root| without_key(root)).collect();
            let activation = state.roots(Ca::Mesh).activation();
            let (trust_domain, config) = (cluster.trust_domain.clone(), state.ca_config().config);
            Change::Ca(Box::new(CaTable { trust_domain, config, roots, activation }))
        }),
        Table::Datacenters => whole(state, table, from, || {
            let others = state.datacenters().map(|other| Datacenter::clone(other));
            Change::Datacenters(state.own_datacenter().into_iter().chain(others).collect())
        }),
        Table::Policies => records::<Policy>(state, from),
        Table::Tokens => records::<Token>(state, from),
    }
}

/// A table that is sent as a whole whenever something in it has changed.
fn whole(state: &State, table: Table, from: &Cursor, change: impl FnOnce() -> Change) -> Option<Next> {
    let revision = table_keys(table).iter().map(|key| state.modified(key)).max()?;
    let to = Cursor { revision, reading: None, after: None };
    (revision > from.revision).then(|| Next { change: change(), to })
}

fn without_key(root: &Root) -> Root {
    let mut root = root.clone();
    root.made.sealed_key = None;
    root
}

/// A table that is sent record by record.
trait Record: Clone {
    fn history(state: &State) -> &History;
    fn find(state: &State, key: Uuid) -> Option<Self>;
    fn after(state: &State, key: Option<Uuid>) -> impl Iterator<Item = (Uuid, Self)>;
    fn bytes(&self) -> usize;
    fn change(page: Option<Page>, put: Vec<Self>, deleted: Vec<Uuid>) -> Change;
}

fn records<R: Record>(state: &State, from: &Cursor) -> Option<Next> {
    if let Some(began) = from.reading {
        return Some(page::<R>(state, Cursor { reading: Some(began), ..*from }));
    }
    let history = R::history(state);
    // Whoever has nothing reads the whole: its beginning may not be in the history.
    let is_new = from.revision.0 == 0;
    match history.since(from.revision, from.after).filter(|_| !is_new) {
        None => Some(page::<R>(state, Cursor { reading: Some(Revision(state.index())), after: None, ..*from })),
        Some(changes) => single::<R>(state, from, changes),
    }
}

/// The next part of the whole table.
fn page<R: Record>(state: &State, from: Cursor) -> Next {
    let (mut put, mut bytes, mut upto) = (Vec::new(), 0, None);
    for (key, record) in R::after(state, from.after) {
        if put.len() >= RECORDS_MAX || bytes >= BYTES_MAX {
            // There is more: this part ends with the last record that is in it.
            let page = Page { after: from.after, upto };
            return Next { change: R::change(Some(page), put, Vec::new()), to: Cursor { after: upto, ..from } };
        }
        bytes += record.bytes();
        upto = Some(key);
        put.push(record);
    }
    let page = Page { after: from.after, upto: None };
    let to = Cursor { revision: from.reading.unwrap_or_default(), reading: None, after: None };
    Next { change: R::change(Some(page), put, Vec::new()), to }
}

/// The next single changes.
fn single<R: Record>(state: &State, from: &Cursor, changes: impl Iterator<Item = (Revision, Uuid)>) -> Option<Next> {
    let (mut put, mut deleted, mut bytes) = (Vec::new(), Vec::new(), 0);
    let mut to = *from;
    for (revision, key) in changes {
        if put.len() + deleted.len() >= RECORDS_MAX || bytes >= BYTES_MAX {
            return Some(Next { change: R::change(None, put, deleted), to });
        }
        to = Cursor { revision, reading: None, after: Some(key) };
        match R::find(state, key) {
            Some(record) => {
                bytes += record.bytes();
                put.push(record);
            }
            None => deleted.push(key),
        }
    }
    // Nothing of that revision is left out.
    to.after = None;
    let is_new = !put.is_empty() || !deleted.is_empty();
    is_new.then(|| Next { change: R::change(None, put, deleted), to })
}

/// What a record has beside its texts: ids, times, lengths.
const FIXED_BYTES: usize = 128;

impl Record for Policy {
    fn history(state: &State) -> &History {
        &state.histories.policies
    }

    fn find(state: &State, key: Uuid) -> Option<Self> {
        state.acl().policy(PolicyId(key)).map(|policy| Self::clone(policy))
    }

    fn after(state: &State, key: Option<Uuid>) -> impl Iterator<Item = (Uuid, Self)> {
        state.acl().policies_after(key.map(PolicyId)).map(|policy| (policy.id.0, Self::clone(policy)))
    }

    fn bytes(&self) -> usize {
        // A rule's name is part of the text.
        FIXED_BYTES + 2 * self.source.len() + self.name.len() + self.description.len() + 16 * self.rules.len()
    }

    fn change(page: Option<Page>, put: Vec<Self>, deleted: Vec<Uuid>) -> Change {
        Change::Policies { page, put, deleted: deleted.into_iter().map(PolicyId).collect() }
    }
}

impl Record for Token {
    fn history(state: &State) -> &History {
        &state.histories.tokens
    }

    fn find(state: &State, key: Uuid) -> Option<Self> {
        let token = state.acl().token(AccessorId(key), Timestamp::EPOCH)?;
        (!token.is_local).then(|| Self::clone(token))
    }

    fn after(state: &State, key: Option<Uuid>) -> impl Iterator<Item = (Uuid, Self)> {
        let tokens = state.acl().tokens_after(key.map(AccessorId)).filter(|token| !token.is_local);
        tokens.map(|token| (token.accessor.0, Self::clone(token)))
    }

    fn bytes(&self) -> usize {
        let services = self.service_identities.iter();
        let services = services.map(|identity| 64 * (1 + identity.datacenters.len())).sum::<usize>();
        FIXED_BYTES + self.description.len() + 16 * self.policies.len() + services + 128 * self.node_identities.len()
    }

    fn change(page: Option<Page>, put: Vec<Self>, deleted: Vec<Uuid>) -> Change {
        Change::Tokens { page, put, deleted: deleted.into_iter().map(AccessorId).collect() }
    }
}
