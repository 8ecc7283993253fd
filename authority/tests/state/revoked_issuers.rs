//! Revoked issuers in the state: who may be revoked, that nothing more is signed by one, in every datacenter, and when it is forgotten.

use carrack_authority::{
    Command, Outcome, Rejection, State, WatchKey, federation::Table, id::KeyId, issuer::IssuerPhase,
    revocation::REASON_BYTES_MAX, state::StateRecord,
};

use crate::{
    federation::{admit_dc2, follow, follow_all, secondary},
    world::*,
};

fn revoke(state: &mut State, issuer: KeyId, is_forced: bool) -> Result<Outcome, Rejection> {
    let command = Command::RevokeIssuer { issuer, reason: "lost machine".into(), is_forced };
    propose(state, START, command).accepted()
}

#[test]
fn an_issuer_in_use_is_revoked_by_force_alone_and_signs_nothing_more() {
    let mut state = issuing();
    let issuer = key_id("issuer a");
    let stranger = revoke(&mut state, key_id("nobody's"), true).unwrap_err();
    assert!(matches!(stranger, Rejection::NotFound { .. }), "{stranger}");
    let reason = "x".repeat(REASON_BYTES_MAX + 1);
    let long = propose(&mut state, START, Command::RevokeIssuer { issuer, reason, is_forced: true }).accepted();
    assert!(matches!(long, Err(Rejection::Invalid { .. })), "{long:?}");
    propose(&mut state, START, Command::RecordIssuance(issuance(1, "web", START))).accepted().unwrap();
    let used = revoke(&mut state, issuer, false).unwrap_err().to_string();
    assert!(used.contains("1 leaves under it are in use") && used.contains("/svc/web"), "{used}");
    assert_eq!(state.revoked_issuers().count(), 0);

    let bundle = state.bundle_revision();
    assert_eq!(revoke(&mut state, issuer, true), Ok(Outcome::Done));
    assert!(state.bundle_revision() > bundle, "agents are told");
    assert_eq!(state.issuer(&issuer).unwrap().phase, IssuerPhase::Retired);
    let refused = propose(&mut state, START, Command::RecordIssuance(issuance(2, "web", START))).accepted();
    assert!(matches!(refused, Err(Rejection::IssuerRefused { .. })), "{refused:?}");
    let seen = state.modified(&WatchKey::RevokedIssuers);
    assert_eq!(revoke(&mut state, issuer, true), Ok(Outcome::Done), "again");
    assert_eq!(state.modified(&WatchKey::RevokedIssuers), seen, "nothing new");

    let records: Vec<StateRecord> = state.to_records().collect();
    let restored = State::from_records(records.clone()).unwrap();
    assert_eq!(restored.revoked_issuers(), state.revoked_issuers());
    assert_eq!(restored.to_records().collect::<Vec<_>>(), records);
    let until = state.revoked_issuers().find(&issuer).unwrap().until;
    propose(&mut state, until.plus(HOUR), Command::SetHalt { halted: false }).accepted().unwrap();
    assert_eq!(state.revoked_issuers().count(), 0, "it has ended by itself");
}

#[test]
fn every_datacenter_hears_of_it_and_only_the_primary_may_say_it() {
    let (mut primary, mut dc2) = (issuing(), secondary());
    admit_dc2(&mut primary);
    follow_all(&primary, &mut dc2);
    let refused = revoke(&mut dc2, key_id("issuer a"), true);
    assert!(matches!(refused, Err(Rejection::InSecondary { .. })), "{refused:?}");
    revoke(&mut primary, key_id("issuer a"), true).unwrap();
    while follow(&primary, &mut dc2, Table::RevokedIssuers) {}
    assert_eq!(dc2.revoked_issuers(), primary.revoked_issuers());
    let until = primary.revoked_issuers().find(&key_id("issuer a")).unwrap().until;
    propose(&mut primary, until.plus(HOUR), Command::SetHalt { halted: false }).accepted().unwrap();
    while follow(&primary, &mut dc2, Table::RevokedIssuers) {}
    assert_eq!((primary.revoked_issuers().count(), dc2.revoked_issuers().count()), (0, 1), "each by its own time");
    propose(&mut dc2, until.plus(HOUR), Command::SetHalt { halted: false }).accepted().unwrap();
    assert_eq!(dc2.revoked_issuers().count(), 0);
}
