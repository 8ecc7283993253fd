//! Tests of `tls::verifier`: who is let in on the Raft port, and which servers a client believes.

use std::{collections::BTreeSet, time::Duration};

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, SanType};
use uuid::Uuid;

use super::*;
use crate::tls::trust::TrustedServers;
use crate::{
    keys::server_keys::ServerCredential,
    tls::testing::{SERVER_TTL, START, ServerCa, key_digest, presented, uri},
};

fn verify(ca: &ServerCa, credential: &ServerCredential, now: Timestamp) -> Result<VerifiedServer, PeerRefusal> {
    let verifier = MemberVerifier::new(ca.trust(), None);
    let verdicts = [PeerSide::Client, PeerSide::Server].map(|side| verifier.verify(&presented(credential), now, side));
    let code = |verdict: &Result<_, PeerRefusal>| verdict.as_ref().err().map(PeerRefusal::code);
    assert_eq!(code(&verdicts[0]), code(&verdicts[1]), "both sides decide alike");
    let [verdict, _] = verdicts;
    verdict
}

fn refusal(ca: &ServerCa, credential: &ServerCredential) -> &'static str {
    verify(ca, credential, START).unwrap_err().code()
}

#[test]
fn a_server_of_this_datacenter_is_let_in_until_its_certificate_ends() {
    let ca = ServerCa::new(1, "dc1");
    let server = ca.server(2);
    let verified = verify(&ca, &server, START).unwrap();
    assert_eq!(verified.id, ca.id(2));
    let not_after = START.plus(SERVER_TTL);
    assert_eq!(verified.acceptance, Acceptance::Certificate { not_after });
    verify(&ca, &server, not_after).expect("the last second belongs to it");
    let expired = verify(&ca, &server, not_after.plus(Duration::from_secs(1))).unwrap_err();
    assert_eq!(expired, PeerRefusal::Expired { node: NodeId(2), not_after });
    assert_eq!(verify(&ca, &server, START.minus(Duration::from_secs(3600))).unwrap_err().code(), "chain");
}

/// CVE-2021-37219: Raft took any certificate of the same CA.
#[test]
fn a_leaf_an_agent_and_a_server_of_another_datacenter_are_refused_on_the_raft_port() {
    let ca = ServerCa::new(1, "dc1");
    for name in [
        "spiffe://example.org/ns/default/dc/dc1/svc/web",
        "spiffe://example.org/agent/client/dc/dc1/id/node1",
        "spiffe://example.org/agent/server/dc/dc1",
    ] {
        assert_eq!(refusal(&ca, &ca.forged(|params| params.subject_alt_names = vec![uri(name)])), "not_a_server");
    }
    let elsewhere = ServerId { datacenter: "dc2".parse_name(), ..ca.id(1) };
    assert_eq!(refusal(&ca, &ca.named(&elsewhere)), "other_datacenter");
    let other_cluster = ServerId { cluster: Uuid::from_u128(9), ..ca.id(1) };
    assert_eq!(refusal(&ca, &ca.named(&other_cluster)), "other_cluster");
    assert_eq!(refusal(&ca, &ServerCa::new(1, "dc1").server(1)), "chain", "the same names, another CA");
    assert_eq!(refusal(&ca, &ServerCa::new(1, "dc2").server(1)), "chain");
}

trait ParseName {
    fn parse_name(&self) -> carrack_authority::spiffe::Name;
}

impl ParseName for str {
    fn parse_name(&self) -> carrack_authority::spiffe::Name {
        carrack_authority::spiffe::Name::parse("datacenter", self).unwrap()
    }
}

/// CVE-2021-32574 and CVE-2022-21656: a valid chain with no, another or a confused identity.
#[test]
fn a_valid_chain_without_exactly_one_server_uri_is_refused() {
    let ca = ServerCa::new(1, "dc1");
    let own = ca.id(1).to_string();
    let dns = |text: &str| SanType::DnsName(text.try_into().unwrap());
    let cases = [
        vec![],
        vec![dns("server.example.org")],
        vec![dns(&own)],
        vec![uri(&own), uri(&own)],
        vec![uri(&own), uri("spiffe://example.org/ns/default/dc/dc1/svc/web")],
        vec![uri(&own.to_uppercase())],
        vec![uri(&format!("{own}/"))],
        vec![uri(&format!("{own}?x"))],
        vec![uri(&own.replace("/server/1", "/server/01"))],
        vec![uri(&own.replace("/server/1", "/server/+1"))],
    ];
    for names in cases {
        let shown = format!("{names:?}");
        let credential = ca.forged(|params| params.subject_alt_names = names);
        assert!(["not_a_server", "unreadable"].contains(&refusal(&ca, &credential)), "{shown}");
    }
    let with_host_names = ca.forged(|params| params.subject_alt_names = vec![uri(&own), dns("server.example.org")]);
    verify(&ca, &with_host_names, START).expect("host names for clients may stand beside the one URI");
}

#[test]
fn a_certificate_for_another_use_or_of_a_ca_is_refused() {
    let ca = ServerCa::new(1, "dc1");
    let only_server = ca.forged(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth]);
    let verifier = MemberVerifier::new(ca.trust(), None);
    assert!(verifier.verify(&presented(&only_server), START, PeerSide::Server).is_ok());
    assert!(verifier.verify(&presented(&only_server), START, PeerSide::Client).is_err());
    let no_use = ca.forged(|params| params.extended_key_usages.clear());
    assert_eq!(refusal(&ca, &no_use), "chain");
    let is_ca = |params: &mut CertificateParams| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    assert_eq!(refusal(&ca, &ca.forged(is_ca)), "chain");
}

#[test]
fn a_certificate_of_the_next_root_verifies_by_its_bridge() {
    let (old, new) = (ServerCa::new(1, "dc1"), ServerCa::new(1, "dc1"));
    let mut chain = presented(&new.server(2));
    let verifier = MemberVerifier::new(old.trust(), None);
    assert_eq!(verifier.verify(&chain, START, PeerSide::Client).unwrap_err().code(), "chain");
    chain.push(crate::tls::identity::certificate(&new.bridge(&old)));
    for side in [PeerSide::Client, PeerSide::Server] {
        assert_eq!(verifier.verify(&chain, START, side).unwrap().id, new.id(2));
    }
}

#[test]
fn a_removed_server_is_refused_and_only_the_dialled_one_answers() {
    let ca = ServerCa::new(1, "dc1");
    let trust = ca.trust();
    let (two, three) = (ca.server(2), ca.server(3));
    let dialled = MemberVerifier::new(trust.clone(), Some(NodeId(2)));
    assert!(dialled.verify(&presented(&two), START, PeerSide::Server).is_ok());
    let other = dialled.verify(&presented(&three), START, PeerSide::Server).unwrap_err();
    assert_eq!(other, PeerRefusal::OtherServer { found: NodeId(3), expected: NodeId(2) });

    trust.replace(TrustedServers { removed: BTreeSet::from([NodeId(2)]), ..ca.trusted(&[(2, &two)]) }).unwrap();
    let removed = dialled.verify(&presented(&two), START, PeerSide::Server).unwrap_err();
    assert_eq!(removed, PeerRefusal::Removed { node: NodeId(2) });
}

#[test]
fn an_expired_certificate_counts_only_with_the_recorded_key_and_no_other_fault() {
    let ca = ServerCa::new(1, "dc1");
    let (two, replaced) = (ca.server(2), ca.server(2));
    let now = START.plus(SERVER_TTL).plus(Duration::from_secs(90 * 24 * 3600));
    let trust = ca.trust();
    let verifier = MemberVerifier::new(trust.clone(), None);
    let verdict = |credential: &ServerCredential| verifier.verify(&presented(credential), now, PeerSide::Client);
    assert_eq!(verdict(&two).unwrap_err().code(), "expired", "nothing is recorded");

    trust.replace(ca.trusted(&[(2, &two)])).unwrap();
    let accepted = verdict(&two).unwrap();
    assert_eq!(accepted.acceptance, Acceptance::RecordedKey { not_after: START.plus(SERVER_TTL) });
    assert_eq!(verdict(&replaced).unwrap_err().code(), "expired", "a former key of the same member");

    let forger = ServerCa::new(1, "dc1").server(2);
    let mut servers = ca.trusted(&[]);
    servers.keys.insert(NodeId(2), BTreeSet::from([key_digest(&forger)]));
    trust.replace(servers).unwrap();
    assert_eq!(verdict(&forger).unwrap_err().code(), "chain", "expired, and of another CA");
    trust.replace(TrustedServers { removed: BTreeSet::from([NodeId(2)]), ..ca.trusted(&[(2, &two)]) }).unwrap();
    assert_eq!(verdict(&two).unwrap_err().code(), "removed");
    let agent =
        ca.forged(|params| params.subject_alt_names = vec![uri("spiffe://example.org/agent/client/dc/dc1/id/a")]);
    assert_eq!(verdict(&agent).unwrap_err().code(), "not_a_server");
}

/// Every certificate has ended, and this server missed the renewals before that: the others are not shut out by what it missed.
#[test]
fn an_expired_certificate_that_is_newer_than_the_recorded_one_counts() {
    let ca = ServerCa::new(1, "dc1");
    let from = |node: u64, not_before: Timestamp| {
        ca.forged(|params| {
            params.subject_alt_names = vec![uri(&ca.id(node).to_string())];
            params.not_before = not_before.to_date_time().unwrap();
            params.not_after = START.plus(SERVER_TTL).plus(SERVER_TTL).to_date_time().unwrap();
        })
    };
    let now = START.plus(SERVER_TTL * 3);
    let trust = ca.trust();
    trust
        .replace(TrustedServers { removed: BTreeSet::from([NodeId(4)]), ..ca.trusted(&[(2, &ca.server(2))]) })
        .unwrap();
    let verifier = MemberVerifier::new(trust.clone(), None);
    let code = |credential: &ServerCredential| {
        let verdict = verifier.verify(&presented(credential), now, PeerSide::Client);
        verdict.map_or_else(|refusal| refusal.code(), |_| "accepted")
    };
    assert_eq!(code(&from(2, START)), "accepted", "renewed while this server was away");
    assert_eq!(code(&from(2, START.minus(Duration::from_secs(120)))), "expired", "older than the recorded one");
    assert_eq!(code(&from(5, START)), "accepted", "admitted while this server was away");
    assert_eq!(code(&from(3, START)), "expired", "neither a member nor admitted later");
    assert_eq!(code(&from(4, START)), "removed");
    trust.replace(ca.trusted(&[])).unwrap();
    assert_eq!(code(&from(5, START)), "expired", "this server knows nobody");
}

#[test]
fn nobody_is_let_in_before_there_is_a_bundle_and_long_chains_are_not_walked() {
    let ca = ServerCa::new(1, "dc1");
    let server = presented(&ca.server(1));
    let empty = MemberVerifier::new(Arc::default(), None);
    assert_eq!(empty.verify(&server, START, PeerSide::Client).unwrap_err(), PeerRefusal::NoTrust);
    let verifier = MemberVerifier::new(ca.trust(), None);
    assert_eq!(verifier.verify(&[], START, PeerSide::Client).unwrap_err().code(), "chain");
    let long: Vec<_> = server.iter().cycle().take(1000).cloned().collect();
    assert_eq!(verifier.verify(&long, START, PeerSide::Client).unwrap_err().code(), "chain_too_long");
}

#[test]
fn a_client_believes_a_root_only_about_its_own_cluster() {
    let (one, two) = (ServerCa::new(1, "dc1"), ServerCa::new(2, "dc2"));
    let anchors: Vec<_> = [&one, &two]
        .map(|ca| (crate::tls::trust::anchor(&ca.root).unwrap(), CertificateFacts::read(ca.root.as_bytes()).unwrap()))
        .into();
    assert_eq!(verify_for_client(&presented(&two.server(1)), &anchors, START).unwrap().id, two.id(1));
    let foreign = two.named(&one.id(1));
    assert_eq!(verify_for_client(&presented(&foreign), &anchors, START).unwrap_err().code(), "chain");
    let agent =
        one.forged(|params| params.subject_alt_names = vec![uri("spiffe://example.org/agent/client/dc/dc1/id/a")]);
    assert_eq!(verify_for_client(&presented(&agent), &anchors, START).unwrap_err().code(), "not_a_server");
    let late = START.plus(SERVER_TTL).plus(Duration::from_secs(1));
    assert_eq!(verify_for_client(&presented(&one.server(1)), &anchors, late).unwrap_err().code(), "expired");
}
