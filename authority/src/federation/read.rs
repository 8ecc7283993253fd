//! What follows next in a table, for someone who has followed it up to a cursor. Pure: the same state and cursor give the same answer.

use std::iter::Peekable;

use uuid::Uuid;

use super::{CaTable, Change, Cursor, Datacenter, History, KnownDatacenter, Page, Switches, Table};
use crate::{
    State,
    acl::{AccessorId, Policy, PolicyId, Token},
    id::Revision,
    intention::{Intention, IntentionKey},
    outcome::WatchKey,
    planted,
    revocation::{Revocation, RevocationKey, RevokedIssuer},
    root::{Ca, Root},
    spiffe::Name,
    time::Timestamp,
};

/// The most records of one change.
const RECORDS_MAX: usize = 512;
/// A change has about this many bytes and one record more: it is one value in the follower's log.
const BYTES_MAX: usize = 128 * 1024;
/// What one entry changed is not parted while a table is read: this much of it, and a change as above before it, are one value in the
/// follower's log. An entry that changed more lets the reading begin again.
const ENTRY_BYTES_MAX: usize = 256 * 1024;

fn records_max() -> usize {
    planted::bound(planted::Bound::FollowedRecords, RECORDS_MAX)
}

/// What follows a cursor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Next {
    /// What changed.
    pub change: Change,
    /// Where the follower is then.
    pub to: Cursor,
    /// Whether that is all: nothing else of this state is missing then.
    pub is_all: bool,
}

/// The tables of the state in which a change may be one of this table.
pub const fn table_keys(table: Table) -> &'static [WatchKey] {
    match table {
        Table::Ca => &[WatchKey::Roots(Ca::Mesh), WatchKey::CaConfig, WatchKey::Cluster],
        Table::Datacenters => &[WatchKey::Datacenters, WatchKey::Members, WatchKey::Roots(Ca::Server)],
        Table::Policies => &[WatchKey::Policies],
        Table::Tokens => &[WatchKey::Tokens],
        Table::Intentions => &[WatchKey::Intentions],
        Table::Revocations => &[WatchKey::Revocations],
        Table::RevokedIssuers => &[WatchKey::RevokedIssuers],
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
            let tainted = state.tainted_roots().cloned().collect();
            let switches = Switches { is_halted: state.is_halted(), tainted };
            Change::CaAndSwitches(Box::new(CaTable { trust_domain, config, roots, activation }), switches)
        }),
        Table::Datacenters => whole(state, table, from, || {
            let own = state.own_datacenter().map(|datacenter| (datacenter, Some(state.own_servers())));
            let others =
                state.datacenters().map(|other| (Datacenter::clone(other), state.servers_of(&other.name).cloned()));
            let all = own.into_iter().chain(others);
            Change::DatacentersAndServers(
                all.map(|(datacenter, servers)| KnownDatacenter { datacenter, servers }).collect(),
            )
        }),
        Table::Policies => records::<Policy>(state, from),
        Table::Tokens => records::<Token>(state, from),
        Table::Intentions => records::<Intention>(state, from),
        Table::Revocations => records::<Revocation>(state, from),
        Table::RevokedIssuers => whole(state, table, from, || {
            Change::RevokedIssuers(state.revoked_issuers().all().map(|it| RevokedIssuer::clone(it)).collect())
        }),
    }
}

/// A table that is sent as a whole whenever something in it has changed.
fn whole(state: &State, table: Table, from: &Cursor, change: impl FnOnce() -> Change) -> Option<Next> {
    let revision = table_keys(table).iter().map(|key| state.modified(key)).max()?;
    let to = Cursor { revision, reading: None, after: None };
    (revision > from.revision).then(|| Next { change: change(), to, is_all: true })
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
    let history = R::history(state);
    let now = Revision(state.index());
    let Some(began) = from.reading else {
        // Whoever has nothing reads the whole: its beginning may not be in the history.
        let is_new = from.revision.0 == 0;
        return match history.since(from.revision, from.after).filter(|_| !is_new) {
            None => Some(page::<R>(state, Cursor { reading: Some(now), after: None, ..*from })),
            Some(changes) => single::<R>(state, from, changes),
        };
    };
    // More has changed during the reading than is remembered, or at once than can be sent: it begins again.
    let again = || Some(page::<R>(state, Cursor { reading: Some(now), after: None, ..*from }));
    let Some(changes) = history.since(began, None) else { return again() };
    // What has changed in the part that was read already does not wait for the end of the reading.
    let mut behind = changes.filter(|(_, key)| from.after.is_some_and(|after| *key <= after)).peekable();
    if behind.peek().is_some() {
        return meanwhile::<R>(state, from, behind).or_else(again);
    }
    Some(page::<R>(state, Cursor { reading: Some(now), ..*from }))
}

/// The next part of the whole table. What has changed up to `from.reading` is in the parts before it, or is read with the rest.
fn page<R: Record>(state: &State, from: Cursor) -> Next {
    let (mut put, mut bytes, mut upto) = (Vec::new(), 0, None);
    for (key, record) in R::after(state, from.after) {
        if put.len() >= records_max() || bytes >= BYTES_MAX {
            // There is more: this part ends with the last record that is in it.
            let page = Page { after: from.after, upto };
            let to = Cursor { after: upto, ..from };
            return Next { change: R::change(Some(page), put, Vec::new()), to, is_all: false };
        }
        bytes += record.bytes();
        upto = Some(key);
        put.push(record);
    }
    let page = Page { after: from.after, upto: None };
    let to = Cursor { revision: from.reading.unwrap_or_default(), reading: None, after: None };
    Next { change: R::change(Some(page), put, Vec::new()), to, is_all: true }
}

/// Single changes as they are sent.
struct Sent<R> {
    put: Vec<R>,
    deleted: Vec<Uuid>,
    bytes: usize,
}

impl<R: Record> Sent<R> {
    const fn new() -> Self {
        Self { put: Vec::new(), deleted: Vec::new(), bytes: 0 }
    }

    fn is_full(&self) -> bool {
        self.put.len() + self.deleted.len() >= records_max() || self.bytes >= BYTES_MAX
    }

    fn take(&mut self, state: &State, key: Uuid) {
        match R::find(state, key) {
            Some(record) => {
                self.bytes += record.bytes();
                self.put.push(record);
            }
            None => {
                self.bytes += UUID_BYTES;
                self.deleted.push(key);
            }
        }
    }

    fn append(&mut self, mut other: Self) {
        self.put.append(&mut other.put);
        self.deleted.append(&mut other.deleted);
        self.bytes += other.bytes;
    }

    fn into_change(self) -> Change {
        R::change(None, self.put, self.deleted)
    }
}

/// The next single changes.
fn single<R: Record>(state: &State, from: &Cursor, changes: impl Iterator<Item = (Revision, Uuid)>) -> Option<Next> {
    let mut sent = Sent::<R>::new();
    let mut to = *from;
    for (revision, key) in changes {
        if sent.is_full() {
            return Some(Next { change: sent.into_change(), to, is_all: false });
        }
        to = Cursor { revision, reading: None, after: Some(key) };
        sent.take(state, key);
    }
    // Nothing of that revision is left out.
    to.after = None;
    let is_new = !sent.put.is_empty() || !sent.deleted.is_empty();
    is_new.then(|| Next { change: sent.into_change(), to, is_all: true })
}

/// Changes in the part of a table that was read already, while the rest is read: always of whole revisions, each of which came from one
/// entry. `None`: the first of them has too many.
fn meanwhile<R: Record>(state: &State, from: &Cursor, changes: impl Iterator<Item = (Revision, Uuid)>) -> Option<Next> {
    let (mut sent, mut last, mut changes) = (Sent::<R>::new(), None, changes.peekable());
    let next = |sent: Sent<R>, reading: Revision| {
        let to = Cursor { reading: Some(reading), ..*from };
        Next { change: sent.into_change(), to, is_all: false }
    };
    while let Some((revision, _)) = changes.peek().copied() {
        let entry = if sent.is_full() { None } else { of_entry(state, revision, &mut changes) };
        // What does not fit any more comes next; what never fits, with the whole.
        let Some(entry) = entry else { return last.map(|last| next(sent, last)) };
        sent.append(entry);
        last = Some(revision);
    }
    Some(next(sent, Revision(state.index())))
}

/// The changes of one revision; `None` if they are more than can be sent at once.
fn of_entry<R: Record>(
    state: &State,
    revision: Revision,
    changes: &mut Peekable<impl Iterator<Item = (Revision, Uuid)>>,
) -> Option<Sent<R>> {
    let mut sent = Sent::new();
    while let Some((_, key)) = changes.next_if(|(other, _)| *other == revision) {
        sent.take(state, key);
        if sent.bytes > ENTRY_BYTES_MAX {
            return None;
        }
    }
    Some(sent)
}

/// What a record has beside its texts: ids, times, lengths.
const FIXED_BYTES: usize = 128;
/// What stands before each text and id: its length.
const LENGTH_BYTES: usize = 8;
const UUID_BYTES: usize = 16 + LENGTH_BYTES;

fn names(all: &[Name]) -> usize {
    all.iter().map(|name| LENGTH_BYTES + name.as_str().len()).sum()
}

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
        let texts = 2 * self.source.len() + self.name.len() + self.description.len();
        FIXED_BYTES + texts + 16 * self.rules.len() + names(&self.datacenters)
    }

    fn change(page: Option<Page>, put: Vec<Self>, deleted: Vec<Uuid>) -> Change {
        Change::Policies { page, put, deleted: deleted.into_iter().map(PolicyId).collect() }
    }
}

/// Whether a token is any business of other datacenters.
fn is_told(token: &Token) -> bool {
    !token.is_local || planted::is(planted::Bug::LocalTokenTold)
}

impl Record for Token {
    fn history(state: &State) -> &History {
        &state.histories.tokens
    }

    fn find(state: &State, key: Uuid) -> Option<Self> {
        let token = state.acl().token(AccessorId(key), Timestamp::EPOCH)?;
        is_told(token).then(|| Self::clone(token))
    }

    fn after(state: &State, key: Option<Uuid>) -> impl Iterator<Item = (Uuid, Self)> {
        let tokens = state.acl().tokens_after(key.map(AccessorId)).filter(|token| is_told(token));
        tokens.map(|token| (token.accessor.0, Self::clone(token)))
    }

    fn bytes(&self) -> usize {
        let services = self.service_identities.iter();
        let services =
            services.map(|identity| 2 * LENGTH_BYTES + identity.service.as_str().len() + names(&identity.datacenters));
        let nodes = self.node_identities.iter();
        let nodes =
            nodes.map(|identity| 2 * LENGTH_BYTES + identity.node.as_str().len() + identity.datacenter.as_str().len());
        let identities = services.sum::<usize>() + nodes.sum::<usize>();
        FIXED_BYTES + self.description.len() + UUID_BYTES * self.policies.len() + identities
    }

    fn change(page: Option<Page>, put: Vec<Self>, deleted: Vec<Uuid>) -> Change {
        Change::Tokens { page, put, deleted: deleted.into_iter().map(AccessorId).collect() }
    }
}

impl Record for Intention {
    fn history(state: &State) -> &History {
        &state.histories.intentions
    }

    fn find(state: &State, key: Uuid) -> Option<Self> {
        state.intentions().of_key(IntentionKey(key)).map(|intention| Self::clone(intention))
    }

    fn after(state: &State, key: Option<Uuid>) -> impl Iterator<Item = (Uuid, Self)> {
        let intentions = state.intentions().after(key.map(IntentionKey));
        intentions.map(|intention| (intention.key().0, Self::clone(intention)))
    }

    fn bytes(&self) -> usize {
        Self::bytes(self)
    }

    fn change(page: Option<Page>, put: Vec<Self>, deleted: Vec<Uuid>) -> Change {
        Change::Intentions { page, put, deleted: deleted.into_iter().map(IntentionKey).collect() }
    }
}

impl Record for Revocation {
    fn history(state: &State) -> &History {
        &state.histories.revocations
    }

    fn find(state: &State, key: Uuid) -> Option<Self> {
        state.revocations().of_key(RevocationKey(key)).map(|revocation| Self::clone(revocation))
    }

    fn after(state: &State, key: Option<Uuid>) -> impl Iterator<Item = (Uuid, Self)> {
        let revocations = state.revocations().after(key.map(RevocationKey));
        revocations.map(|revocation| (revocation.key().0, Self::clone(revocation)))
    }

    fn bytes(&self) -> usize {
        FIXED_BYTES + self.reason.len()
    }

    /// One that has ended is noted as changed and not there any more: nobody need hear of it.
    fn change(page: Option<Page>, put: Vec<Self>, _deleted: Vec<Uuid>) -> Change {
        Change::Revocations { page, put }
    }
}
