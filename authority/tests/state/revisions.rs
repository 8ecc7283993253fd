//! A revision names one content of a record: whoever compares with it changes what he has seen, or nothing.

use carrack_authority::{Command, Entry, Outcome, Proposal, Rejection, State, acl::Policy, id::NodeId, id::Revision};

use crate::world::*;

/// Proposals that share an entry.
fn together(state: &mut State, commands: Vec<Command>) -> Vec<Outcome> {
    let proposals = commands.into_iter().map(|command| Proposal { proposer: NodeId(1), command });
    let entry = Entry { stamp: START, proposals: proposals.collect() };
    state.apply(state.index() + 1, &entry).outcomes
}

fn put(expected: Revision, description: &str) -> Command {
    let policy = Policy { description: description.into(), ..policy(1) };
    Command::PutPolicy { expected, policy }
}

#[test]
fn what_an_entry_wrote_and_deleted_is_not_made_anew_in_it() {
    let mut state = issuing();
    propose(&mut state, START, put(Revision(0), "first")).accepted().unwrap();
    let first = state.acl().policy(policy_id(1)).unwrap().modified;
    let delete = || Command::DeletePolicy { policy: policy_id(1) };
    let outcomes = together(&mut state, vec![put(first, "second"), delete(), put(Revision(0), "third")]);
    assert_eq!(outcomes[..2], [Outcome::Done, Outcome::Done]);
    assert!(matches!(outcomes[2], Outcome::Rejected(Rejection::Conflict { .. })), "{outcomes:?}");
    assert!(state.acl().policy(policy_id(1)).is_none());

    let token = |description: &str| {
        let token = carrack_authority::acl::Token { description: description.into(), ..token(7) };
        Command::PutToken { expected: Revision(0), token }
    };
    let delete = Command::DeleteToken { accessor: accessor(7) };
    let outcomes = together(&mut state, vec![token("first"), delete, token("second")]);
    assert!(matches!(outcomes[2], Outcome::Rejected(Rejection::Conflict { .. })), "{outcomes:?}");
}

#[test]
fn what_an_earlier_entry_wrote_may_be_replaced_within_one() {
    let mut state = issuing();
    propose(&mut state, START, put(Revision(0), "first")).accepted().unwrap();
    let outcomes =
        together(&mut state, vec![Command::DeletePolicy { policy: policy_id(1) }, put(Revision(0), "second")]);
    assert_eq!(outcomes, [Outcome::Done, Outcome::Done]);
    assert_eq!(state.acl().policy(policy_id(1)).unwrap().description, "second");
}
