//! The stories: each is a file of `tests/golden`.

use std::{sync::Arc, time::Duration};

use carrack_authority::{
    Command, State,
    acl::{NodeIdentity, PolicyId, RoleId, ServiceIdentity, Token},
    ca_config::CaConfig,
    id::{Digest, FeatureLevel, NodeId, Revision, Serial},
    issuance::{Grant, Holder, Issuance, Keeper, Review},
    issuer::SignedIssuer,
    member::{AdmitServer, ServerCertificate, ServerCertificateRequest},
    root::Ca,
    spiffe::{Identity, SpiffeId, SpiffePath},
};
use uuid::Uuid;

use crate::{transcript::Transcript, world::*};

fn admit_command(server: AdmitServer) -> Command {
    Command::AdmitServer(Box::new(server))
}

fn modified(story: &Transcript, node: u64) -> Revision {
    story.state.member(NodeId(node)).map_or(Revision(0), |member| member.modified)
}

#[test]
fn a_datacenter_begins_and_servers_join() {
    let mut story = Transcript::new(State::default());
    story.title("nothing happens before the beginning");
    story.step("halt", Command::SetHalt { halted: true });
    let begin = |edit: &dyn Fn(&mut carrack_authority::command::Bootstrap)| {
        let mut bootstrap = bootstrap();
        edit(&mut bootstrap);
        Command::Bootstrap(Box::new(bootstrap))
    };
    story.step("begin with server 0", begin(&|it| it.member.node = NodeId(0)));
    story.step("begin with the last id there is", begin(&|it| it.member.node = NodeId(u64::MAX)));
    story.step("begin at a level that the server does not know", begin(&|it| it.feature_level = FeatureLevel(2)));
    story.step("begin with another recovery recipient", begin(&|it| it.recovery = None));
    story.step("begin with a leaf TTL of a minute", begin(&|it| it.config.leaf_ttl = Duration::from_secs(60)));
    story.step("begin with a root that has ended", begin(&|it| it.server_root.not_after = START));
    story.step("begin with an address of 300 bytes", begin(&|it| it.member.addresses.raft = "a".repeat(300)));
    story.step("begin", begin(&|_| {}));
    story.step("begin again", begin(&|_| {}));
    story.step("begin something else", begin(&|it| it.cluster = Uuid::from_u128(8)));

    story.title("join tokens");
    let until = START.plus(HOUR);
    story.step("a token for b", Command::CreateJoinToken(join_token("b", until)));
    story.step("the same token for b", Command::CreateJoinToken(join_token("b", until)));
    story.step("the same secret for an hour more", Command::CreateJoinToken(join_token("b", until.plus(HOUR))));
    story.step("a token for a, who is here", Command::CreateJoinToken(join_token("a", until)));
    story.step("a token for c that has ended", Command::CreateJoinToken(join_token("c", START)));
    story.step("a token for c, good for a year", Command::CreateJoinToken(join_token("c", START.plus(DAY * 365))));
    story.step("a token for c", Command::CreateJoinToken(join_token("c", until.plus(HOUR))));

    story.title("admission");
    story.step("x comes without a token", admit_command(admit("x")));
    story.step("x comes with b's token", admit_command(AdmitServer { name: name("x"), ..admit("b") }));
    story.step("b understands too little", admit_command(AdmitServer { supports: FeatureLevel(0), ..admit("b") }));
    story.step("b brings a's store", admit_command(AdmitServer { store: store("a"), ..admit("b") }));
    story.step(
        "b brings a request of 9 KiB",
        admit_command(AdmitServer { csr: der(&"x".repeat(9 << 10)), ..admit("b") }),
    );
    story.step("b comes", admit_command(admit("b")));
    story.step("b lost the answer", admit_command(admit("b")));
    story.step("b comes with another key", admit_command(AdmitServer { public_key: digest("other"), ..admit("b") }));
    story.step("b comes with another store", admit_command(AdmitServer { store: store("other"), ..admit("b") }));
    story.step("a second token for b", Command::CreateJoinToken(join_token("b", until)));
    story.wait(HOUR + Duration::from_secs(1));
    story.step("b lost the answer, an hour later", admit_command(admit("b")));
    story.step("c comes", admit_command(admit("c")));
    story.show();
    story.check("join");
}

#[test]
fn servers_announce_themselves_and_get_certificates() {
    let mut story = Transcript::new(State::default());
    story.step("begin", Command::Bootstrap(Box::new(bootstrap())));
    story.step("a token for b", Command::CreateJoinToken(join_token("b", START.plus(HOUR))));
    story.step("b comes", admit_command(admit("b")));

    story.title("a server speaks for itself alone");
    let announce = |of: &str, supports: u32| {
        let supports = FeatureLevel(supports);
        Command::AnnounceServer { node: NodeId(2), addresses: addresses(of), supports }
    };
    story.step("b is elsewhere", announce("elsewhere", 1));
    story.step_of(2, "b is elsewhere", announce("elsewhere", 1));
    story.step_of(2, "b is elsewhere", announce("elsewhere", 1));
    story.step_of(2, "b understands nothing", announce("elsewhere", 0));
    story.step_of(2, "b understands level 2", announce("elsewhere", 2));

    story.title("the feature level");
    let raise = |expected: u32, level: u32| {
        let (expected, level) = (FeatureLevel(expected), FeatureLevel(level));
        Command::RaiseFeatureLevel { expected, level }
    };
    story.step("from 1 to 2, but a does not know it", raise(1, 2));
    let supports = FeatureLevel(3);
    story.step(
        "a understands level 3",
        Command::AnnounceServer { node: NodeId(1), addresses: addresses("a"), supports },
    );
    story.step("from 2 to 3, but it is 1", raise(2, 3));
    story.step("from 1 to 2", raise(1, 2));
    story.step("from 1 to 2 again", raise(1, 2));
    story.step("back to 1", raise(2, 1));
    story.step_of(2, "b understands level 1 alone", announce("elsewhere", 1));
    story.step("a token for c", Command::CreateJoinToken(join_token("c", START.plus(HOUR))));
    story.step("c comes with level 1", admit_command(admit("c")));

    story.title("server certificates");
    let request = |of: &str| {
        let (csr, public_key) = (der(&format!("csr {of}")), digest(&format!("key {of}")));
        let request = ServerCertificateRequest { csr, public_key, revision: Revision(0) };
        Command::RequestServerCertificate { node: NodeId(2), request }
    };
    let certificate = |of: &str| ServerCertificate {
        certificate: der(&format!("certificate {of}")),
        public_key: digest(&format!("key {of}")),
        root: key_id("server root"),
        not_before: START,
        not_after: START.plus(DAY * 30),
    };
    let record = |expected: u64, certificate| {
        let expected = Revision(expected);
        Command::RecordServerCertificate { node: NodeId(2), expected, certificate }
    };
    let at = story.state.member(NodeId(2)).and_then(|member| member.request.clone()).unwrap().revision.0;
    story.step("b's first request is answered with another key", record(at, certificate("x")));
    story.step("... for another request", record(at + 1, certificate("b")));
    story.step(
        "... by a root that is not there",
        record(at, ServerCertificate { root: key_id("x"), ..certificate("b") }),
    );
    let not_after = START.plus(DAY * 36_500);
    story.step("... past its root's end", record(at, ServerCertificate { not_after, ..certificate("b") }));
    story.step(
        "... with dates that have passed",
        record(at, ServerCertificate { not_after: START, ..certificate("b") }),
    );
    story.step("... well", record(at, certificate("b")));
    story.step("... well, again", record(at, certificate("b")));
    story.step(
        "... with another certificate",
        record(at, ServerCertificate { certificate: der("x"), ..certificate("b") }),
    );
    story.step("a asks for b", request("b2"));
    story.step_of(2, "b asks for a new one", request("b2"));
    story.step_of(2, "b asks again", request("b2"));
    let former_key = |story: &Transcript| story.state.member(NodeId(2)).and_then(|member| member.former_key);
    let asked_at = |story: &Transcript| {
        story.state.member(NodeId(2)).and_then(|member| member.request.clone()).unwrap().revision.0
    };
    assert_eq!(former_key(&story), None);
    story.step("b is renewed", record(asked_at(&story), certificate("b2")));
    assert_eq!(former_key(&story), Some(digest("key b")), "until b has heard of it, it has only the old key");
    story.step_of(2, "b has not heard of it and asks again, with the same key", request("b2"));
    let not_after = START.plus(DAY * 31);
    story.step("it is answered", record(asked_at(&story), ServerCertificate { not_after, ..certificate("b2") }));
    assert_eq!(former_key(&story), Some(digest("key b")), "the key that b shows is not forgotten");
    story.show();
    story.check("servers");
}

#[test]
fn a_removed_server_never_comes_back() {
    let mut story = Transcript::new(State::default());
    story.step("begin", Command::Bootstrap(Box::new(bootstrap())));
    story.step("remove the last server", Command::RequestRemoval { node: NodeId(1) });
    story.step("a token for b", Command::CreateJoinToken(join_token("b", START.plus(HOUR))));
    story.step("b comes", admit_command(admit("b")));
    story.step("remove server 9", Command::RequestRemoval { node: NodeId(9) });
    let expected = modified(&story, 2);
    story.step("b is forgotten unasked", Command::RemoveServer { node: NodeId(2), expected });
    story.step("remove b", Command::RequestRemoval { node: NodeId(2) });
    story.step("remove b again", Command::RequestRemoval { node: NodeId(2) });
    story.step("remove a too: nobody would be left", Command::RequestRemoval { node: NodeId(1) });
    story.step("b is forgotten, as it was before", Command::RemoveServer { node: NodeId(2), expected });
    let expected = modified(&story, 2);
    story.step("b is forgotten", Command::RemoveServer { node: NodeId(2), expected });
    story.step("b is forgotten again", Command::RemoveServer { node: NodeId(2), expected });
    story.step("remove b again", Command::RequestRemoval { node: NodeId(2) });

    story.title("b tries to come back");
    let supports = FeatureLevel(1);
    let announce = Command::AnnounceServer { node: NodeId(2), addresses: addresses("b"), supports };
    story.step_of(2, "under its old id", announce);
    story.step("with its old token", admit_command(admit("b")));
    let again =
        carrack_authority::member::JoinToken { secret: digest("join b again"), ..join_token("b", START.plus(HOUR)) };
    story.step("a new token for b", Command::CreateJoinToken(again));
    let server = AdmitServer { secret: digest("join b again"), ..admit("b") };
    story.step("with its old store", admit_command(server.clone()));
    story.step("with an empty store", admit_command(AdmitServer { store: store("b again"), ..server }));
    story.show();
    story.check("removal");
}

#[test]
fn roots_are_published_activated_and_sealed_anew() {
    let mut story = Transcript::new(State::default());
    story.step("begin", Command::Bootstrap(Box::new(bootstrap())));
    let publish = |root| Command::PublishRoot { ca: Ca::Mesh, root };
    let first = || new_root("root 1", START, Some(sealed(&[(1, "a")])));

    story.title("a root is sealed to exactly the recorded servers");
    story.step("to nobody", publish(new_root("root 1", START, Some(sealed(&[])))));
    story.step("to a stranger too", publish(new_root("root 1", START, Some(sealed(&[(1, "a"), (2, "b")])))));
    story.step("to another recipient of a's", publish(new_root("root 1", START, Some(sealed(&[(1, "x")])))));
    let mut without_recovery = sealed(&[(1, "a")]);
    without_recovery.recovery = None;
    story.step("not to the recovery recipient", publish(new_root("root 1", START, Some(without_recovery))));
    let long = vec![der("above"); 5];
    story.step("under five certificates", publish(carrack_authority::root::NewRoot { chain: long, ..first() }));
    story.step("well", publish(first()));
    story.step("again", publish(first()));
    story.step(
        "another certificate of it",
        publish(carrack_authority::root::NewRoot { certificate: der("x"), ..first() }),
    );
    story.step("a second one beside it", publish(new_root("root 2", START, Some(sealed(&[(1, "a")])))));

    story.title("activation compares and sets");
    let activate = |of: &str, expected: u64, active: Option<&str>| {
        let (root, expected_active) = (key_id(of), active.map(key_id));
        Command::ActivateRoot { ca: Ca::Mesh, root, expected: Revision(expected), expected_active }
    };
    let at = |story: &Transcript, of: &str| story.state.roots(Ca::Mesh).find(&key_id(of)).unwrap().modified.0;
    let seen = at(&story, "root 1");
    story.step("an unknown root", activate("root 9", seen, None));
    story.step("as it was before", activate("root 1", seen - 1, None));
    story.step("after another one", activate("root 1", seen, Some("root 9")));
    story.step("root 1", activate("root 1", seen, None));
    story.step("root 1 again", activate("root 1", seen, None));

    story.title("a new server gets its slot");
    story.step("a token for b", Command::CreateJoinToken(join_token("b", START.plus(HOUR))));
    story.step("b comes", admit_command(admit("b")));
    let reseal = |expected: u64, sealed| {
        let (ca, root, expected) = (Ca::Mesh, key_id("root 1"), Revision(expected));
        Command::ResealRoot { ca, root, expected, sealed }
    };
    let seen = at(&story, "root 1");
    story.step(
        "to a alone",
        reseal(seen, carrack_authority::root::SealedKey { ciphertext: der("new"), ..sealed(&[(1, "a")]) }),
    );
    story.step("to both, as the root was before", reseal(seen - 1, sealed(&[(1, "a"), (2, "b")])));
    story.step("to both", reseal(seen, sealed(&[(1, "a"), (2, "b")])));
    story.step("to both again", reseal(seen, sealed(&[(1, "a"), (2, "b")])));

    story.title("the next root");
    story.step("root 2", publish(new_root("root 2", START, Some(sealed(&[(1, "a"), (2, "b")])))));
    story.step("a rotation", start_rotation("root 1"));
    story.step("root 2", publish_rotation_root(&story.state, "root 2"));
    story.step("its bridge", bridge_to(&story.state, "root 2"));
    let seen = at(&story, "root 2");
    story.step("active after none", activate("root 2", seen, None));
    story.step("active after root 1", activate("root 2", seen, Some("root 1")));
    let seen = at(&story, "root 1");
    story.step("root 1 again", activate("root 1", seen, Some("root 2")));
    story.show();
    story.check("roots");
}

#[test]
fn issuers_answer_requests() {
    let mut story = Transcript::new(State::default());
    story.step("begin", Command::Bootstrap(Box::new(bootstrap())));
    let request = |node, root: &str, key: &str| Command::RequestIssuer(issuer_request(node, root, key));
    story.step("an issuer under a root that is not there", request(1, "root 1", "k1"));
    let root = new_root("root 1", START, Some(sealed(&[(1, "a")])));
    story.step("root 1 is published", Command::PublishRoot { ca: Ca::Mesh, root });
    story.step_of(2, "a request for a from another server", request(1, "root 1", "k1"));
    story.step_of(9, "a request of a server that is not there", request(9, "root 1", "k1"));
    story.step("a request", request(1, "root 1", "k1"));
    story.step("again", request(1, "root 1", "k1"));
    let seen = story.state.issuer_requests().next().unwrap().revision.0;
    let sign = |expected: u64| SignedIssuer { certificate: der("certificate 1"), ..signed_issuer(1, expected, START) };
    let record = Command::RecordIssuer;

    story.title("the leader signs");
    story.step("for another request", record(sign(seen + 1)));
    story.step("for another server", record(SignedIssuer { node: NodeId(2), ..sign(seen) }));
    story.step("from before the root", record(SignedIssuer { not_before: START.minus(HOUR), ..sign(seen) }));
    story.step("past the root's end", record(SignedIssuer { not_after: START.plus(DAY * 3651), ..sign(seen) }));
    story.step("for a time that has passed", record(SignedIssuer { not_after: START, ..sign(seen) }));
    story.step("halt", Command::SetHalt { halted: true });
    story.step("while halted", record(sign(seen)));
    story.step("resume", Command::SetHalt { halted: false });
    story.step("well", record(sign(seen)));
    story.step("again", record(sign(seen)));

    story.title("a newer issuer replaces the former");
    story.step("a request with the same key", request(1, "root 1", "k1"));
    story.step("a request with a new key", request(1, "root 1", "k2"));
    let seen = story.state.issuer_requests().next().unwrap().revision.0;
    story.step("it is signed", record(SignedIssuer { certificate: der("certificate 2"), ..sign(seen) }));
    story.show();
    story.wait(DAY * 366);
    story.step("resume, a year later", Command::SetHalt { halted: false });
    story.show();
    story.check("issuers");
}

#[test]
fn issuing_is_a_committed_decision() {
    let mut story = Transcript::new(issuing());
    let now = START;
    let leaf = |number: u64| issuance(number, "web", now);
    let record = Command::RecordIssuance;

    story.title("what is refused");
    story.step("after its deadline", record(Issuance { deadline: now.minus(HOUR), ..leaf(1) }));
    story.step("with a deadline in an hour", record(Issuance { deadline: now.plus(HOUR), ..leaf(1) }));
    story.step("with a negative serial", record(Issuance { serial: Serial([0x80; 20]), ..leaf(1) }));
    story.step("with the serial zero", record(Issuance { serial: Serial([0; 20]), ..leaf(1) }));
    let holder = |keeper, slot: &str| Arc::new(Holder { keeper, slot: slot.into() });
    story.step(
        "in a slot of 65 bytes",
        record(Issuance { holder: holder(Keeper::Server(NodeId(1)), &"x".repeat(65)), ..leaf(1) }),
    );
    story.step("kept by another server", record(Issuance { holder: holder(Keeper::Server(NodeId(2)), ""), ..leaf(1) }));
    story.step("of an unknown issuer", record(Issuance { issuer: key_id("x"), ..leaf(1) }));
    story.step_of(
        2,
        "from another server than its issuer's",
        record(Issuance { holder: holder(Keeper::Login(accessor(1)), ""), ..leaf(1) }),
    );
    story.step("from before its issuer", record(Issuance { not_before: now.minus(DAY), ..leaf(1) }));
    story.step("past its issuer's end", record(Issuance { not_after: now.plus(DAY * 366), ..leaf(1) }));
    story.step("for longer than LeafCertTTL", record(Issuance { not_after: now.plus(DAY * 3 + HOUR), ..leaf(1) }));
    story.step("that has not begun", record(Issuance { not_before: now.plus(HOUR), ..leaf(1) }));
    story.step("that has ended", record(Issuance { not_after: now, ..leaf(1) }));
    let old = now.minus(Duration::from_secs(121));
    story.step("signed 121 s ago with its backdating", record(Issuance { not_before: old, ..leaf(1) }));
    story.step(
        "by a token that does not exist",
        record(Issuance { grant: Arc::new(Grant::Token(accessor(9))), ..leaf(1) }),
    );
    story.step("of another datacenter", record(Issuance { identity: service("dc2", "web"), ..leaf(1) }));
    let foreign = SpiffeId::service("example.com".parse().unwrap(), name("dc1"), name("web"));
    story
        .step("of another trust domain", record(Issuance { identity: Arc::new(Identity::Spiffe(foreign)), ..leaf(1) }));
    story.step("of Linkerd", record(Issuance { identity: Arc::new(Identity::LinkerdDns("web.x".into())), ..leaf(1) }));
    let review = Grant::Review(Arc::new(Review { method: name("kubernetes"), digest: Digest([7; 32]) }));
    story.step("by an auth method that does not exist", record(Issuance { grant: Arc::new(review), ..leaf(1) }));
    story.step(
        "by an agent that does not exist",
        record(Issuance { grant: Arc::new(Grant::Agent(name("x"))), ..leaf(1) }),
    );
    story.step("halt", Command::SetHalt { halted: true });
    story.step("while halted", record(leaf(1)));
    story.step("resume", Command::SetHalt { halted: false });

    story.title("what is recorded, once");
    story.step("the same, now", record(leaf(1)));
    story.step("again", record(leaf(1)));
    story.step("its serial for another certificate", record(Issuance { certificate: digest("x"), ..leaf(1) }));
    story.wait(HOUR);
    story.step("again, long after its deadline", record(leaf(1)));
    story.step("halt", Command::SetHalt { halted: true });
    story.step("again, while halted", record(leaf(1)));
    story.step("resume", Command::SetHalt { halted: false });

    story.title("a newer leaf of the same holder, slot and identity supersedes");
    let now = story.now;
    let leaf = |number: u64| issuance(number, "web", now);
    story.step("another slot", record(Issuance { holder: holder(Keeper::Server(NodeId(1)), "other"), ..leaf(2) }));
    story.step("another identity", record(Issuance { identity: service("dc1", "db"), ..leaf(3) }));
    story.step("the same", record(leaf(4)));
    story.show();

    story.title("a token's services");
    let of = |number, service: &str| Issuance {
        grant: Arc::new(Grant::Token(accessor(5))),
        ..issuance(number, service, now)
    };
    let here = ServiceIdentity { service: name("web"), datacenters: Vec::new() };
    let there = ServiceIdentity { service: name("db"), datacenters: vec![name("dc2")] };
    let nodes = vec![NodeIdentity { node: name("n1"), datacenter: name("dc1") }];
    let token = Token { service_identities: vec![here, there], node_identities: nodes, ..token(5) };
    let agent = |node: &str| {
        let path = SpiffePath::Agent { datacenter: name("dc1"), node: name(node) };
        Arc::new(Identity::Spiffe(SpiffeId { trust_domain: "example.org".parse().unwrap(), path }))
    };
    story.step("a token for web, for db in dc2, for node n1", Command::PutToken { expected: Revision(0), token });
    story.step("web", record(of(5, "web")));
    story.step("db", record(of(6, "db")));
    story.step("node n1", record(Issuance { identity: agent("n1"), ..of(7, "web") }));
    story.step("node n2", record(Issuance { identity: agent("n2"), ..of(8, "web") }));
    story.step("the token is deleted", Command::DeleteToken { accessor: accessor(5) });
    story.step("web", record(of(9, "web")));

    story.title("everything ends");
    story.wait(DAY - HOUR);
    story.step("in the last second of the first", record(leaf(4)));
    story.wait(Duration::from_secs(1));
    story.step("after the first one's end", Command::SetHalt { halted: false });
    story.show();
    story.wait(HOUR);
    story.step("after the last one's end", Command::SetHalt { halted: false });
    story.show();
    story.check("issuing");
}

#[test]
fn issuing_follows_roots_issuers_and_configuration() {
    let mut story = Transcript::new(issuing());
    let record = Command::RecordIssuance;
    story.step("a leaf", record(issuance(1, "web", START)));

    story.title("the CA configuration");
    let expected = story.state.ca_config().modified;
    let shorter = CaConfig { leaf_ttl: HOUR * 2, ..CaConfig::default() };
    story.step(
        "leaves of 2 h, as it was before",
        Command::SetCaConfig { expected: Revision(99), config: shorter, rotation_period: None, rotation: None },
    );
    let bad = CaConfig { leaf_ttl: Duration::from_secs(u64::MAX), ..CaConfig::default() };
    story.step(
        "leaves without end",
        Command::SetCaConfig { expected, config: bad, rotation_period: None, rotation: None },
    );
    let bad = CaConfig { csr_max_per_second: u32::MAX, ..CaConfig::default() };
    story.step(
        "a limit without limit",
        Command::SetCaConfig { expected, config: bad, rotation_period: None, rotation: None },
    );
    story.step(
        "leaves of 2 h",
        Command::SetCaConfig { expected, config: shorter, rotation_period: None, rotation: None },
    );
    story.step(
        "leaves of 2 h again",
        Command::SetCaConfig { expected, config: shorter, rotation_period: None, rotation: None },
    );
    story.step("a leaf of a day", record(issuance(2, "web", START)));
    story.step("a leaf of 2 h", record(Issuance { not_after: START.plus(HOUR * 2), ..issuance(2, "web", START) }));

    story.title("another root becomes active");
    story.step("a rotation", start_rotation("root 1"));
    story.step("root 2 is published", publish_rotation_root(&story.state, "root 2"));
    story.step("root 2 has a bridge", bridge_to(&story.state, "root 2"));
    story.step("an issuer under it", Command::RequestIssuer(issuer_request(1, "root 2", "issuer 2")));
    let expected = story.state.issuer_requests().next().unwrap().revision.0;
    let signed = SignedIssuer { certificate: der("2"), ..signed_issuer(1, expected, START.minus(HOUR)) };
    story.step("it is signed", Command::RecordIssuer(signed));
    let leaf = |number, issuer: &str| {
        let issuer = key_id(issuer);
        Issuance { issuer, not_after: START.plus(HOUR), ..issuance(number, "web", START) }
    };
    story.step("a leaf of it, too early", record(leaf(3, "issuer 2")));
    story.step("a leaf of the former", record(leaf(4, "issuer a")));
    let expected = story.state.roots(Ca::Mesh).find(&key_id("root 2")).unwrap().modified;
    let expected_active = Some(key_id("root 1"));
    story.step(
        "root 2 is active",
        Command::ActivateRoot { ca: Ca::Mesh, root: key_id("root 2"), expected, expected_active },
    );
    story.step("a leaf of it", record(leaf(5, "issuer 2")));
    story.step("a leaf of the former", record(leaf(6, "issuer a")));
    story.step("an issuer under the former", Command::RequestIssuer(issuer_request(1, "root 1", "issuer 3")));
    story.show();
    story.check("issuing_and_roots");
}

#[test]
fn tokens_and_policies_live_and_end() {
    let mut story = Transcript::new(State::default());
    story.step("begin", Command::Bootstrap(Box::new(bootstrap())));
    let boot = |token, reset| Command::BootstrapAcl { token, reset };
    story.title("bootstrap, once");
    story.step("with a token that may do nothing", boot(token(1), None));
    let ends = Some(START.plus(DAY));
    story.step("with a token that ends", boot(Token { expires_at: ends, ..management_token() }, None));
    story.step("well", boot(management_token(), None));
    story.step("again, with the same token", boot(management_token(), None));
    let second = || Token { policies: vec![PolicyId::GLOBAL_MANAGEMENT], ..token(2) };
    story.step("with another token", boot(second(), None));
    story.step("with the wrong reset index", boot(second(), Some(1)));
    let reset = Some(story.state.acl().bootstrapped().0);
    story.step("with the reset index", boot(second(), reset));
    story.step(
        "with the same reset index again",
        boot(Token { policies: vec![PolicyId::GLOBAL_MANAGEMENT], ..token(3) }, reset),
    );

    story.title("policies");
    let put = |expected: u64, policy| Command::PutPolicy { expected: Revision(expected), policy };
    let named = |number, name: &str| carrack_authority::acl::Policy { name: name.into(), ..policy(number) };
    story
        .step("a built-in id", put(0, carrack_authority::acl::Policy { id: PolicyId::GLOBAL_MANAGEMENT, ..policy(1) }));
    story.step("a built-in name", put(0, named(1, "global-management")));
    story.step("a policy that should exist", put(4, policy(1)));
    story.step("a policy", put(0, policy(1)));
    story.step("the same", put(0, policy(1)));
    story.step("the same name under another id", put(0, named(2, "policy-1")));
    let at = story.state.acl().policy(policy_id(1)).unwrap().modified.0;
    story.step("another name, as it was before", put(at - 1, named(1, "renamed")));
    story.step("another name", put(at, named(1, "renamed")));
    story.step("its old name is free", put(0, named(2, "policy-1")));
    let source = "x".repeat((64 << 10) + 1);
    story.step("rules of more than 64 KiB", put(0, carrack_authority::acl::Policy { source, ..policy(3) }));

    story.title("tokens");
    let put = |expected: u64, token| Command::PutToken { expected: Revision(expected), token };
    story.step(
        "a reserved accessor",
        put(0, Token { accessor: carrack_authority::acl::AccessorId::ANONYMOUS, ..token(4) }),
    );
    story.step("a token with a policy that is not there", put(0, Token { policies: vec![policy_id(9)], ..token(4) }));
    story.step("a token with a role", put(0, Token { roles: vec![RoleId(Uuid::from_u128(9))], ..token(4) }));
    story.step("a token of an auth method", put(0, Token { auth_method: Some(name("k8s")), ..token(4) }));
    story.step("a token that has ended", put(0, Token { expires_at: Some(START), ..token(4) }));
    story.step("a token with another's secret", put(0, Token { secret: token(1).secret, ..token(4) }));
    story.step("a token with 129 policies", put(0, Token { policies: vec![policy_id(1); 129], ..token(4) }));
    let described = |text: &str| Token { description: text.into(), policies: vec![policy_id(1)], ..token(4) };
    story.step("a description of 513 bytes", put(0, described(&"x".repeat(513))));
    story.step("a token", put(0, described("first")));
    story.step("the same", put(0, described("first")));
    story.step("another description for nobody", put(0, described("second")));
    let at = story.state.acl().token(accessor(4), START).unwrap().modified.0;
    story.step("another secret", put(at, Token { secret: digest("x"), ..described("first") }));
    story.step("another end", put(at, Token { expires_at: ends, ..described("first") }));
    story.step("another locality", put(at, Token { is_local: true, ..described("first") }));
    story.step("another description", put(at, described("second")));
    story.step("its policy is deleted", Command::DeletePolicy { policy: policy_id(1) });
    story.step("its policy is deleted again", Command::DeletePolicy { policy: policy_id(1) });
    story.step("management is deleted", Command::DeletePolicy { policy: PolicyId::GLOBAL_MANAGEMENT });
    story.step("the token is deleted", Command::DeleteToken { accessor: accessor(4) });
    story.step("the token is deleted again", Command::DeleteToken { accessor: accessor(4) });

    story.title("a token ends by itself");
    story.step("a token for a day", put(0, Token { expires_at: ends, ..token(5) }));
    story.wait(DAY);
    story.step("it is deleted, when it is over", Command::DeleteToken { accessor: accessor(5) });
    story.check("acl");
}
