//! Values of rotations.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, WatchKey,
    federation::{CaTable, Change, Cursor, Followed, Switches, Table},
    id::{KeyId, Revision},
    key::KeyKind,
    root::Bridge,
    rotation::{
        Fence, HeardActivation, HeardStanding, LastRotation, RootStanding, Rotation, RotationCause, RotationControl,
        RotationEnd, RotationRequest, Standing, TaintedRoot, WantedRoot,
    },
    state::StateRecord,
    time::Timestamp,
};
use uuid::Uuid;

use crate::{config, der, name, new_root};

const CAUSES: [RotationCause; 6] = [
    RotationCause::Operator,
    RotationCause::Configuration,
    RotationCause::Schedule,
    RotationCause::Expiry,
    RotationCause::RollBack,
    RotationCause::Compromise,
];

pub(crate) fn request(cause: RotationCause, wanted: WantedRoot) -> RotationRequest {
    RotationRequest {
        cause,
        expected_active: KeyId([206; 20]),
        wanted,
        is_bridged: true,
        pauses_before_activation: false,
        ack_timeout: Duration::from_secs(207),
    }
}

fn start(cause: RotationCause, wanted: WantedRoot) -> Command {
    Command::StartRotation(Box::new(request(cause, wanted)))
}

pub(crate) fn made() -> WantedRoot {
    WantedRoot::Made { provider: "builtin".into(), key_kind: KeyKind::Ed25519 }
}

fn standing() -> Standing {
    let root = RootStanding {
        root: KeyId([208; 20]),
        is_acknowledged: true,
        has_issuers: false,
        current: 209,
        unexpired: 210,
        last_not_after: Timestamp(211),
    };
    Standing { activation: 212, is_halted: true, roots: vec![root], absent: 213, lagging: 214 }
}

fn tainted() -> TaintedRoot {
    TaintedRoot { root: KeyId([215; 20]), reason: "stolen".into(), tainted_at: Timestamp(216), is_compromised: true }
}

pub(crate) fn commands() -> Vec<Command> {
    let (rotation, expected, root) = (Revision(217), Revision(218), KeyId([219; 20]));
    let (not_before, not_after) = (Timestamp(220), Timestamp(221));
    let bridge = Bridge { certificate: der("bridge"), signed_by: KeyId([222; 20]), not_before, not_after };
    let reason = || "stolen".to_owned();
    let mut commands: Vec<Command> = CAUSES.map(|cause| start(cause, made())).into();
    commands.push(start(RotationCause::Operator, WantedRoot::Supplied(Box::new(new_root()))));
    commands.extend([
        Command::PublishRotationRoot { rotation, expected, root: Box::new(new_root()) },
        Command::BridgeRoot { root, expected, bridge: Box::new(bridge) },
        Command::RollBack { rotation },
        Command::FinishRotation { rotation, expected },
        Command::PruneRoot { root, expected },
        Command::TaintRoot { root, reason: reason() },
        Command::RevokeRoot { root, reason: reason(), is_forced: true },
        Command::FollowActivation { activation: 223 },
        Command::SetRotationPeriod { period: Some(Duration::from_secs(224)) },
        Command::AnnounceStanding {
            datacenter: name("dc2"),
            cluster: Uuid::from_u128(225),
            standing: Box::new(standing()),
        },
    ]);
    let controls = [RotationControl::Pause, RotationControl::Resume, RotationControl::Force];
    commands.extend(controls.map(|control| Command::ControlRotation { rotation, control }));
    let trust_domain = "example.org".parse().unwrap();
    let ca = CaTable { trust_domain, config: config(), roots: vec![crate::root()], activation: 226 };
    let change = Change::CaAndSwitches(Box::new(ca), Switches { is_halted: true, tainted: vec![tainted()] });
    let (primary, table, at) = (Uuid::from_u128(227), Table::Ca, Cursor::default());
    let followed = Followed { primary, table, from: at, to: at, change, is_all: true };
    commands.push(Command::FollowPrimary(Box::new(followed)));
    commands
}

fn rotation() -> Rotation {
    Rotation {
        id: Revision(228),
        cause: RotationCause::Operator,
        former: KeyId([229; 20]),
        to_make: Some(("builtin".into(), KeyKind::EcP384)),
        root: Some(KeyId([230; 20])),
        is_bridged: true,
        is_paused: false,
        is_forced: true,
        ack_timeout: Duration::from_secs(231),
        began_at: Timestamp(232),
        activated_at: Some(Timestamp(233)),
        modified: Revision(234),
    }
}

pub(crate) fn records() -> Vec<StateRecord> {
    let ends = [RotationEnd::Finished, RotationEnd::Abandoned, RotationEnd::RolledBack];
    let last = ends.map(|end| LastRotation { rotation: rotation(), end, ended_at: Timestamp(235) });
    let heard = HeardStanding { standing: standing(), heard_at: Timestamp(236) };
    let mut records = vec![StateRecord::Rotation(Arc::new(rotation()))];
    records.extend(last.map(|last| StateRecord::LastRotation(Arc::new(last))));
    records.extend([
        StateRecord::Fence(Fence { root: KeyId([237; 20]), activation: 238, last_not_after: Timestamp(239) }),
        StateRecord::TaintedRoot(tainted()),
        StateRecord::Standing(name("dc2"), Arc::new(heard)),
        StateRecord::HeardActivation(HeardActivation { activation: 240, root: KeyId([241; 20]) }),
        StateRecord::PrimaryHalted(true),
        StateRecord::RotationPeriod(Duration::from_secs(242)),
        StateRecord::Modified(WatchKey::Rotation, Revision(243)),
    ]);
    records
}
