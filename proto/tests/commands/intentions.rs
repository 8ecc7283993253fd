//! Values of intentions.

use std::{collections::BTreeMap, sync::Arc};

use carrack_authority::{
    Command, WatchKey,
    federation::{Change, Cursor, Followed, Page, Table},
    id::Revision,
    intention::{
        Action, DestinationKey, Effect, Intention, IntentionKey, Party, Pattern, Permission,
        permission::{ClaimTest, HeaderTest, JwtProvider, JwtRequirement, Method, PathTest, ValueTest},
    },
    state::StateRecord,
    time::Timestamp,
};
use uuid::Uuid;

use crate::name;

fn jwt() -> JwtRequirement {
    let claims = vec![ClaimTest { path: vec!["realm".into(), "roles".into()], value: "admin".into() }];
    JwtRequirement { providers: vec![JwtProvider { name: "okta".into(), claims }] }
}

/// Every kind of test is in one of them.
fn permissions() -> Vec<Permission> {
    let text = || "text".to_owned();
    let paths = [
        PathTest::Any,
        PathTest::Exact("/a".into()),
        PathTest::Prefix("/b".into()),
        PathTest::Regex(Pattern::new("/c.*")),
    ];
    let values = [
        ValueTest::Present,
        ValueTest::Exact(text()),
        ValueTest::Prefix(text()),
        ValueTest::Suffix(text()),
        ValueTest::Contains(text()),
        ValueTest::Regex(Pattern::new("te?xt")),
    ];
    let header = |value| HeaderTest { name: "X-A".into(), value, is_inverted: true, ignores_case: true };
    let headers = values.map(header).to_vec();
    let permission = |path| Permission {
        action: Action::Allow,
        path,
        headers: headers.clone(),
        methods: Method::ALL.to_vec(),
        jwt: Some(jwt()),
    };
    paths.map(permission).to_vec()
}

fn intention(source: Party, effect: Effect) -> Intention {
    Intention {
        destination: Party::Service(name("db")),
        source,
        effect,
        jwt: Some(jwt()),
        description: "d".into(),
        meta: BTreeMap::from([("k".to_owned(), "v".to_owned())]),
        legacy_id: Some(Uuid::from_u128(164)),
        created_at: Timestamp(165),
        updated_at: Timestamp(166),
        created: Revision(167),
        modified: Revision(168),
    }
}

fn intentions() -> [Intention; 2] {
    let l4 = intention(Party::Any, Effect::Action(Action::Deny));
    [l4, intention(Party::Service(name("web")), Effect::Permissions(permissions()))]
}

pub(crate) fn commands() -> Vec<Command> {
    let (destination, source, expected) = (Party::Service(name("db")), Party::Any, Some(Revision(169)));
    let put = |intention| Command::PutIntention { expected: Revision(170), intention: Box::new(intention) };
    let mut commands = intentions().map(put).to_vec();
    commands.extend([
        Command::DeleteIntention { destination: destination.clone(), source },
        Command::PutServiceIntentions { expected, destination: destination.clone(), intentions: intentions().to_vec() },
        Command::DeleteServiceIntentions { expected: None, destination },
        followed(),
    ]);
    commands
}

fn followed() -> Command {
    let (primary, at, key) = (Uuid::from_u128(190), Cursor::default(), Uuid::from_u128(191));
    let page = Some(Page { after: None, upto: Some(key) });
    let (table, deleted) = (Table::Intentions, vec![IntentionKey(key)]);
    let change = Change::Intentions { page, put: intentions().to_vec(), deleted };
    Command::FollowPrimary(Box::new(Followed { primary, table, from: at, to: at, change, is_all: true }))
}

pub(crate) fn records() -> Vec<StateRecord> {
    let mut records = intentions().map(|intention| StateRecord::Intention(Arc::new(intention))).to_vec();
    let keys = [
        WatchKey::Intentions,
        WatchKey::IntentionsOf(DestinationKey(Uuid::from_u128(171))),
        WatchKey::IntentionsOfAny,
        WatchKey::IntentionsGone,
    ];
    records.extend(keys.map(|key| StateRecord::Modified(key, Revision(172))));
    let (table, at) = (Table::Intentions, Revision(192));
    records.extend([StateRecord::Changed(table, at, Uuid::from_u128(193)), StateRecord::Forgotten(table, at)]);
    records
}
