//! Batches and what becomes of them.

use carrack_authority::{
    command::{Entry, Proposal},
    id::FeatureLevel,
    member::Addresses,
    time::Timestamp,
};

use super::{
    batch::Waiting,
    dispatch::encode_entry,
    flight::{Ended, Flight, Way},
    *,
};
use crate::network::Forwarded;

type Outcomes = Vec<oneshot::Receiver<Result<Proposed, ProposeError>>>;

fn safe() -> Command {
    let addresses = Addresses { raft: "a:1".to_owned(), grpc: "a:2".to_owned(), wan: None };
    Command::AnnounceServer { node: NodeId(1), addresses, supports: FeatureLevel(1) }
}

fn unsafe_to_repeat() -> Command {
    Command::SetHalt { halted: true }
}

fn pending(command: Command, bytes: usize) -> (Pending, oneshot::Receiver<Result<Proposed, ProposeError>>) {
    let (reply, outcome) = oneshot::channel();
    let deadline = Instant::now() + Duration::from_secs(5);
    let proposer = NodeId(2);
    (Pending { command, bytes, proposer, is_forwarded: false, is_maybe_proposed: false, deadline, reply }, outcome)
}

fn flight(commands: Vec<Command>) -> (Flight, Outcomes, mpsc::Receiver<Ended>) {
    let (ended, ends) = mpsc::channel(1);
    let (pending, outcomes) = commands.into_iter().map(|command| pending(command, 1)).unzip();
    (Flight::new(Way::Forward, pending, ended), outcomes, ends)
}

fn again(ends: &mut mpsc::Receiver<Ended>) -> Vec<(Command, bool)> {
    let ended = ends.try_recv().unwrap();
    ended.again.into_iter().map(|pending| (pending.command, pending.is_maybe_proposed)).collect()
}

#[tokio::test]
async fn a_batch_is_bounded_in_number_and_bytes_and_never_empty() {
    let mut waiting = Waiting::default();
    let sizes = [ENTRY_BYTES_MAX + 1, ENTRY_BYTES_MAX, 1].into_iter().chain([0; ENTRY_PROPOSALS_MAX + 1]);
    waiting.extend(sizes.map(|bytes| pending(unsafe_to_repeat(), bytes).0));
    let batches: Vec<usize> = std::iter::from_fn(|| Some(waiting.take().len()).filter(|count| *count > 0)).collect();
    assert_eq!(batches, [1, 1, ENTRY_PROPOSALS_MAX, 2]);
}

#[tokio::test]
async fn a_command_whose_deadline_passes_is_told_whether_it_may_have_happened() {
    let mut waiting = Waiting::default();
    let (never, never_outcome) = pending(safe(), 1);
    let (mut maybe, maybe_outcome) = pending(safe(), 1);
    maybe.is_maybe_proposed = true;
    let deadline = maybe.deadline;
    waiting.extend([never, maybe].into_iter());
    waiting.expire(deadline - Duration::from_secs(1));
    assert_eq!(waiting.len(), 2);
    waiting.expire(deadline);
    assert_eq!(never_outcome.await.unwrap(), Err(ProposeError::NoLeader));
    assert_eq!(maybe_outcome.await.unwrap(), Err(ProposeError::OutcomeUnknown));
    assert!(waiting.is_empty());
}

#[tokio::test]
async fn after_a_lost_leader_only_what_may_be_repeated_is() {
    let (lost, mut outcomes, mut ends) = flight(vec![safe(), unsafe_to_repeat()]);
    drop(lost);
    assert_eq!(again(&mut ends), [(safe(), true)]);
    assert_eq!(outcomes.pop().unwrap().await.unwrap(), Err(ProposeError::OutcomeUnknown));
}

#[tokio::test]
async fn what_was_turned_away_is_proposed_again_whatever_it_is() {
    let (turned_away, _outcomes, mut ends) = flight(vec![safe(), unsafe_to_repeat()]);
    turned_away.turned_away();
    assert_eq!(again(&mut ends), [(safe(), false), (unsafe_to_repeat(), false)]);
}

#[tokio::test]
async fn each_command_gets_its_own_answer_and_a_missing_one_is_unknown() {
    let commands = vec![unsafe_to_repeat(), unsafe_to_repeat(), unsafe_to_repeat(), unsafe_to_repeat()];
    let (answered, outcomes, mut ends) = flight(commands);
    answered.answered(vec![Forwarded::Decided(7, Outcome::Done), Forwarded::NotProposed, Forwarded::Unknown]);
    assert_eq!(again(&mut ends), [(unsafe_to_repeat(), false)]);
    let results = futures::future::join_all(outcomes).await;
    assert_eq!(results[0], Ok(Ok(Proposed { index: 7, outcome: Outcome::Done })));
    assert!(results[1].is_err(), "it was not answered, the test dropped it");
    assert_eq!(results[2], Ok(Err(ProposeError::OutcomeUnknown)));
    assert_eq!(results[3], Ok(Err(ProposeError::OutcomeUnknown)));
}

#[tokio::test]
async fn a_borrowed_entry_is_written_as_an_owned_one() {
    let all = [pending(safe(), 1).0, pending(unsafe_to_repeat(), 1).0];
    let bytes = encode_entry(Timestamp(5), &all, FeatureLevel(1)).unwrap();
    let read: Entry = stored::decode(stored::Kind::Commands, &bytes).unwrap();
    let proposal = |command| Proposal { proposer: NodeId(2), command };
    let expected = Entry { stamp: Timestamp(5), proposals: vec![proposal(safe()), proposal(unsafe_to_repeat())] };
    assert_eq!(read, expected);
}

#[tokio::test]
async fn a_full_queue_and_a_large_command_are_refused_at_once() {
    let (proposer, mut queue) = Proposer::new();
    let deadline = Instant::now() + Duration::from_secs(5);
    let waiting: Vec<_> =
        (0..=QUEUE_MAX).map(|_| Box::pin(proposer.propose(unsafe_to_repeat(), NodeId(1), false, deadline))).collect();
    let first = futures::future::select_all(waiting).await;
    assert_eq!((first.0, first.1), (Err(ProposeError::Overloaded), QUEUE_MAX));
    queue.close();
    let stopped = proposer.propose(unsafe_to_repeat(), NodeId(1), false, deadline).await;
    assert_eq!(stopped, Err(ProposeError::Stopped));
    let mut addresses = Addresses { raft: String::new(), grpc: String::new(), wan: None };
    addresses.raft = "a".repeat(COMMAND_BYTES_MAX);
    let large = Command::AnnounceServer { node: NodeId(1), addresses, supports: FeatureLevel(1) };
    let refused = proposer.propose(large, NodeId(1), false, deadline).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })));
}
