//! Agents in the state: a token is good once, a key is known until another takes its name's place, and an agent is entitled to its own
//! certificate alone.

use std::sync::Arc;

use carrack_authority::{
    Command, Outcome, Rejection, State, WatchKey,
    agent::{AGENT_TOKEN_TTL_MAX, AGENT_TOKENS_MAX, AgentToken},
    id::Revision,
    issuance::{Grant, Holder, Issuance, Keeper},
    spiffe::{Identity, SpiffeId, SpiffePath},
    state::StateRecord,
    time::Timestamp,
};

use crate::world::*;

fn agent_token(secret: &str, of: &str, until: Timestamp) -> AgentToken {
    AgentToken { secret: digest(secret), node: name(of), expires_at: until, consumed: None, created: Revision(0) }
}

fn make(state: &mut State, secret: &str, of: &str) {
    let token = Command::CreateAgentToken(agent_token(secret, of, START.plus(HOUR)));
    assert_eq!(propose(state, START, token), Outcome::Done);
}

fn join(state: &mut State, secret: &str, of: &str, key: &str) -> Result<Outcome, Rejection> {
    let admit = Command::AdmitAgent { secret: digest(secret), node: name(of), public_key: digest(key) };
    propose(state, START, admit).accepted()
}

fn own_certificate(serial: u64, grant: &str, identity: &str, key: &str) -> Command {
    let it = issuance(serial, "web", START);
    let SpiffeId { trust_domain, .. } = match &*it.identity {
        Identity::Spiffe(id) => id.clone(),
        other => panic!("{other:?}"),
    };
    let path = SpiffePath::Agent { datacenter: name("dc1"), node: name(identity) };
    Command::RecordIssuance(Issuance {
        identity: Arc::new(Identity::Spiffe(SpiffeId { trust_domain, path })),
        grant: Arc::new(Grant::Agent(name(grant))),
        public_key: digest(key),
        holder: Arc::new(Holder { keeper: Keeper::Agent(name(grant)), slot: "own".into() }),
        ..it
    })
}

#[test]
fn a_token_lets_one_agent_in_and_a_lost_answer_is_given_again() {
    let mut state = issuing();
    make(&mut state, "s", "n1");
    let unknown = join(&mut state, "other", "n1", "key").unwrap_err().to_string();
    assert!(unknown.contains("unknown or has ended") && unknown.contains("carrack token agent"), "{unknown}");
    let wrong = join(&mut state, "s", "n2", "key").unwrap_err().to_string();
    assert!(wrong.contains("it is for the agent `n1`, not for `n2`"), "{wrong}");
    assert_eq!(join(&mut state, "s", "n1", "key"), Ok(Outcome::Done));
    assert_eq!(join(&mut state, "s", "n1", "key"), Ok(Outcome::Done), "its answer was lost");
    let stolen = join(&mut state, "s", "n1", "another key").unwrap_err().to_string();
    assert!(stolen.contains("used already, by an agent with another key"), "{stolen}");
    assert_eq!(state.agent_of_key(&digest("key")).unwrap().node, name("n1"));
    make(&mut state, "s2", "n2");
    let taken = join(&mut state, "s2", "n2", "key").unwrap_err().to_string();
    assert!(taken.contains("an agent with this key, `n1`"), "{taken}");
}

#[test]
fn a_host_that_is_set_up_anew_takes_its_names_place_and_a_removed_one_is_nobody() {
    let mut state = issuing();
    make(&mut state, "s", "n1");
    join(&mut state, "s", "n1", "key").unwrap();
    let first = state.agent(&name("n1")).unwrap().clone();
    let seen = state.modified(&WatchKey::Agent(first.public_key));
    make(&mut state, "s2", "n1");
    join(&mut state, "s2", "n1", "new key").unwrap();
    let second = state.agent(&name("n1")).unwrap().clone();
    assert_eq!((second.created, second.public_key), (first.created, digest("new key")));
    assert!(state.agent_of_key(&first.public_key).is_none());
    assert!(state.modified(&WatchKey::Agent(first.public_key)) > seen, "whoever holds its stream is woken");
    let late = join(&mut state, "s", "n1", "key").unwrap_err().to_string();
    assert!(late.contains("was removed or replaced since"), "{late}");
    let remove = |expected| Command::RemoveAgent { node: name("n1"), expected };
    let bounced = propose(&mut state, START, remove(first.modified)).accepted();
    assert!(matches!(bounced, Err(Rejection::Conflict { .. })), "it was replaced since it was looked at: {bounced:?}");
    assert_eq!(propose(&mut state, START, remove(second.modified)), Outcome::Done);
    assert_eq!((state.agent_count(), state.agent_of_key(&digest("new key"))), (0, None));
    assert_eq!(propose(&mut state, START, remove(second.modified)), Outcome::Done, "again");
}

#[test]
fn an_agent_gets_its_own_certificate_with_its_own_key_and_nothing_else() {
    let mut state = issuing();
    make(&mut state, "s", "n1");
    join(&mut state, "s", "n1", "key").unwrap();
    let accepted = propose(&mut state, START, own_certificate(1, "n1", "n1", "key"));
    assert!(matches!(accepted, Outcome::Recorded { .. }), "{accepted:?}");
    let mut web = issuance(9, "web", START);
    web.grant = Arc::new(Grant::Agent(name("n1")));
    for (refused, reason) in [
        (own_certificate(2, "n2", "n2", "key"), "the agent `n2` is not registered"),
        (own_certificate(3, "n1", "n2", "key"), "entitled to its own certificate alone"),
        (own_certificate(4, "n1", "n1", "other"), "is known by another key"),
        (Command::RecordIssuance(web), "entitled to its own certificate alone"),
    ] {
        let refused = propose(&mut state, START, refused).accepted().unwrap_err();
        assert!(matches!(refused, Rejection::GrantRefused { .. }) && refused.to_string().contains(reason), "{refused}");
    }
    let expected = state.agent(&name("n1")).unwrap().modified;
    propose(&mut state, START, Command::RemoveAgent { node: name("n1"), expected }).accepted().unwrap();
    let removed = propose(&mut state, START, own_certificate(5, "n1", "n1", "key")).accepted().unwrap_err();
    assert!(removed.to_string().contains("not registered"), "{removed}");
}

#[test]
fn agent_tokens_end_are_bounded_and_used_ones_give_way() {
    let mut state = issuing();
    for wrong in [START, START.plus(AGENT_TOKEN_TTL_MAX + HOUR)] {
        let refused = propose(&mut state, START, Command::CreateAgentToken(agent_token("s", "n1", wrong)));
        assert!(matches!(refused, Outcome::Rejected(Rejection::Invalid { .. })), "{refused:?}");
    }
    for number in 0..AGENT_TOKENS_MAX {
        make(&mut state, &format!("used {number}"), "n1");
        join(&mut state, &format!("used {number}"), "n1", &format!("key {number}")).unwrap();
    }
    for number in 0..AGENT_TOKENS_MAX {
        make(&mut state, &format!("unused {number}"), "n1");
    }
    let token = Command::CreateAgentToken(agent_token("one more", "n1", START.plus(HOUR)));
    let refused = propose(&mut state, START, token).accepted().unwrap_err();
    assert!(matches!(refused, Rejection::LimitReached { .. }), "{refused}");
    let tokens =
        |state: &State| state.to_records().filter(|record| matches!(record, StateRecord::AgentToken(_))).count();
    assert_eq!(tokens(&state), 2 * AGENT_TOKENS_MAX);
    let records: Vec<StateRecord> = state.to_records().collect();
    let restored = State::from_records(records.clone()).unwrap();
    assert_eq!(restored.to_records().collect::<Vec<_>>(), records);
    assert_eq!(restored.agent_of_key(&state.agent(&name("n1")).unwrap().public_key), state.agent(&name("n1")));
    propose(&mut state, START.plus(HOUR * 2), Command::SetHalt { halted: false }).accepted().unwrap();
    assert_eq!(tokens(&state), 0, "they have ended");
}
