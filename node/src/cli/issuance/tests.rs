//! Records as a server prints them, read back and linked.

use super::*;

fn example() -> (Issuance, Timestamp) {
    let name = |text| Name::parse("name", text).expect("a name");
    let issuance = Issuance {
        serial: "11".repeat(20).parse().expect("a serial"),
        identity: Identity::Spiffe("spiffe://example.org/ns/default/dc/dc1/svc/web".parse().expect("an id")).into(),
        grant: Grant::Review(Review { method: name("k8s"), digest: Digest([3; 32]) }.into()).into(),
        public_key: Digest([1; 32]),
        certificate: Digest([2; 32]),
        not_before: Timestamp::from_seconds(1_800_000_000),
        not_after: Timestamp::from_seconds(1_800_003_600),
        issuer: "22".repeat(20).parse().expect("a key id"),
        holder: Holder { keeper: Keeper::Server(NodeId(3)), slot: "a slot".into() }.into(),
        deadline: Timestamp(1_800_000_010_250),
    };
    (issuance, Timestamp(1_800_000_000_125))
}

/// The record as the server's API prints it.
fn printed(sequence: u64, before: Digest) -> IssuanceRecord {
    let (issuance, recorded_at) = example();
    IssuanceRecord {
        sequence,
        serial: issuance.serial.to_string(),
        identity: issuance.identity.to_string(),
        grant: issuance.grant.to_string(),
        spki_digest: issuance.public_key.to_string(),
        certificate_digest: issuance.certificate.to_string(),
        not_before: issuance.not_before.to_string(),
        not_after: issuance.not_after.to_string(),
        issuer: issuance.issuer.to_string(),
        holder: issuance.holder.to_string(),
        deadline: issuance.deadline.to_string(),
        recorded_at: recorded_at.to_string(),
        index: 7,
        superseded_by: None,
        hash: link(&before, sequence, 7, recorded_at, &issuance).to_string(),
    }
}

fn client() -> Client {
    let arguments = super::super::connection::ConnectionArgs::default();
    Client::new(arguments.resolve(&std::collections::BTreeMap::new()).expect("it is valid")).expect("a client")
}

#[test]
fn what_a_server_prints_reads_back_as_the_same_facts() {
    assert_eq!(issuance(&printed(1, EMPTY_HEAD)).expect("it is read"), example());
    for grant_text in ["token 00000000-0000-0000-0000-000000000001", "agent node-1"] {
        assert_eq!(grant(grant_text).map(|grant| grant.to_string()).as_deref(), Some(grant_text));
    }
    for holder_text in ["login 00000000-0000-0000-0000-000000000001 slot ", "agent node-1 slot x slot y"] {
        assert_eq!(holder(holder_text).map(|holder| holder.to_string()).as_deref(), Some(holder_text));
    }
}

#[test]
fn a_record_that_was_changed_breaks_the_chain() {
    let (client, arguments) = (client(), ExportArgs { follow: false, after: 0, stale: false });
    let mut export = Export { arguments: &arguments, client: &client, last: None, after: 0 };
    let first = export.check(&printed(1, EMPTY_HEAD)).expect("it holds");
    export.last = Some((1, first));
    let second = printed(2, first);
    assert!(export.check(&second).is_ok());
    let changed = IssuanceRecord { identity: "spiffe://example.org/ns/default/dc/dc1/svc/db".into(), ..second };
    assert!(matches!(export.check(&changed), Err(CliError::BrokenChain { sequence: 2, .. })));
    let after_a_gap = printed(9, Digest([5; 32]));
    assert!(export.check(&after_a_gap).is_ok(), "the record before an expired one is not known");
}
