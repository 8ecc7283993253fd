//! Issuers of other datacenters: what is refused and why, and that nothing leaves without its record.

use std::sync::atomic::{AtomicUsize, Ordering};

use carrack_authority::{
    federation::{AdmitDatacenter, DatacenterFacts, FederationToken, KnownServers},
    id::{KeyId, Serial},
    root::Root,
    rotation::{ACK_TIMEOUT, RotationCause, RotationRequest, WantedRoot},
    x509::{CertificateFacts, authority::SignedCertificate},
};

use super::*;
use crate::testing::{der, name, new_root};

/// Requests that `openssl req -new -subj / -addext subjectAltName=URI:spiffe://...` has made: of a P-256 key for example.org,
const REQUEST: &str = "\
     3081ed30819402010030003059301306072a8648ce3d020106082a8648ce3d0301070342000467f0682f9bf09939db95a8770d67edd24ceb59f455c7\
     4e92e9825f50dc1e7a9dcddc4b7a9e936586b26685aaaff0ed8769a1f5507abc9ec81a0e745f9938d446a032303006092a864886f70d01090e312330\
     21301f0603551d110418301686147370696666653a2f2f6578616d706c652e6f7267300a06082a8648ce3d0403020348003045022100822092f78931\
     5cdb45bd76a0297de2fcfb45706928a51ba31955eebf1b69aec202206c32f9abd68f4d1e0d3eeac9fbaafad51bcb612f72dc0df52d0f09f2cd1db861";
/// of another key for another trust domain,
const FOREIGN: &str = "\
     3081e930819102010030003059301306072a8648ce3d020106082a8648ce3d03010703420004ead82087fd82d1771d10b54c10b37b6c1433b3c06e75\
     ce6b5cdf3612248ad4e6b16a966e1ae4fb4bae283fa4c6d86987055f46c063e83d1ee7d54f2902b84b66a02f302d06092a864886f70d01090e312030\
     1e301c0603551d110415301386117370696666653a2f2f6576696c2e6f7267300a06082a8648ce3d040302034700304402205add01b1511dd7eaf960\
     75de7146158a76f1fec9d5fd9a0d3441f1718f75895b02206653d03432042c57ae10c172aa64faa4d307d465ebd2cadfbd9176f6cccaeb22";
/// and of a P-384 key.
const LONG_KEY: &str = "\
     3082012a3081b102010030003076301006072a8648ce3d020106052b81040022036200046225c53fb2964c1f43a14ff16c81d2de73a0feb7e8c1e4a8\
     0e639f932e46cd09d2bbb3e1cfff2041829501059b4efe8c2a7166361cda26497429351222ffd888bb4a150cf27392638d7d559a8a90f6cc434dc29f\
     f10bea9a600bc07000ac8478a032303006092a864886f70d01090e31233021301f0603551d110418301686147370696666653a2f2f6578616d706c65\
     2e6f7267300a06082a8648ce3d0403020368003065023077b96f9e331f32e7dd950f4db60d29184cbc0d4e085ffd77b3a3f96342a194ff0b67b3fb33\
     685a21d75457078dde1c9b023100a26bbe07a06644e99377fc2d3c4ea4d5457067b7302c6ca832d3ca18a630f8b0776347ad8e5c15de28d6d1a37412\
     c04f";

const ROOT: KeyId = KeyId([1; 20]);
const NEXT_ROOT: KeyId = KeyId([4; 20]);

fn request(hex: &str) -> Der {
    let octet = |position| u8::from_str_radix(&hex[position..position + 2], 16).unwrap();
    Der::from((0..hex.len()).step_by(2).map(octet).collect::<Vec<u8>>().as_slice())
}

fn asked(csr: Der, root: KeyId) -> IssuerAsked {
    IssuerAsked { node: NodeId(5), node_name: name("x"), root, csr }
}

/// Signs everything, each time with another certificate, and counts.
#[derive(Default)]
struct CountingSigner(AtomicUsize);

impl IssuerSigner for CountingSigner {
    fn sign<'a>(&'a self, root: &'a Root, issuer: IssuerToSign) -> BoxFuture<'a, Result<SignedCertificate, String>> {
        let count = self.0.fetch_add(1, Ordering::Relaxed);
        let facts = CertificateFacts {
            serial: Serial::from_random([1; 20]),
            subject: der("subject"),
            issuer: der("issuer"),
            public_key: issuer.csr.public_key().clone(),
            key_id: Some(issuer.csr.public_key().id),
            authority_key_id: Some(root.made.id),
            not_before: issuer.now,
            not_after: issuer.now.plus(issuer.ttl),
            is_ca: true,
            path_length: Some(0),
            key_usages: None,
            purposes: Vec::new(),
            uris: Vec::new(),
            dns_names: Vec::new(),
            ip_addresses: Vec::new(),
            name_constraints: None,
        };
        async move { Ok(SignedCertificate { der: der(&format!("certificate {count}")), facts }) }.boxed()
    }
}

/// A primary with an active root that has admitted dc2.
fn primary() -> Arc<MemoryLog> {
    let log = MemoryLog::begun();
    activate(&log, ROOT, None);
    let secret = Digest([6; 32]);
    let expires_at = START.plus(Duration::from_secs(3600));
    log.apply(Command::CreateFederationToken(FederationToken {
        secret,
        datacenter: name("dc2"),
        expires_at,
        consumed: None,
        created: Revision(0),
    }));
    let facts = DatacenterFacts {
        name: name("dc2"),
        cluster: Uuid::from_u128(8),
        server_roots: vec![der("server root 2")],
        wan_addresses: vec!["x:8302".into()],
    };
    let (datacenter, cluster) = (facts.name.clone(), facts.cluster);
    log.apply(Command::AdmitDatacenter(Box::new(AdmitDatacenter { secret, facts })));
    let servers = KnownServers { present: vec![NodeId(5), NodeId(6)], next: NodeId(8) };
    log.apply(Command::AnnounceServersOf { datacenter, cluster, servers });
    log
}

fn activate(log: &MemoryLog, root: KeyId, expected_active: Option<KeyId>) {
    match expected_active {
        None => log.apply(Command::PublishRoot { ca: Ca::Mesh, root: new_root("root", root) }),
        Some(active) => prepare(log, active, root),
    }
    let expected = Revision(log.state().index());
    log.apply(Command::ActivateRoot { ca: Ca::Mesh, root, expected, expected_active });
}

/// A rotation begins, and its root is in the bundle.
fn prepare(log: &MemoryLog, expected_active: KeyId, root: KeyId) {
    log.apply(Command::StartRotation(Box::new(RotationRequest {
        cause: RotationCause::Operator,
        expected_active,
        wanted: WantedRoot::Supplied(Box::new(new_root("next root", root))),
        is_bridged: false,
        pauses_before_activation: false,
        ack_timeout: ACK_TIMEOUT,
    })));
}

async fn sign(log: &MemoryLog, signer: &CountingSigner, from: &str, asked: IssuerAsked) -> Result<Der, PrimaryError> {
    sign_issuer(log, signer, &name(from), asked).await
}

#[tokio::test(start_paused = true)]
async fn an_issuer_is_recorded_before_it_leaves_and_the_same_key_is_answered_with_the_same() {
    let (log, signer) = (primary(), CountingSigner::default());
    let certificate = sign(&log, &signer, "dc2", asked(request(REQUEST), ROOT)).await.unwrap();
    let state = log.state();
    let recorded = state.remote_issuers().next().unwrap();
    assert_eq!((&recorded.certificate, recorded.node, recorded.root), (&certificate, NodeId(5), ROOT));
    assert_eq!(sign(&log, &signer, "dc2", asked(request(REQUEST), ROOT)).await, Ok(certificate), "a lost answer");
    assert_eq!((signer.0.load(Ordering::Relaxed), log.state().remote_issuers().count()), (1, 1));
    let other = IssuerAsked { node: NodeId(6), ..asked(request(REQUEST), ROOT) };
    let refused = sign(&log, &signer, "dc2", other).await.unwrap_err().to_string();
    assert!(refused.contains("has an issuer of another server or root"), "{refused}");
    // A request may be of before the configuration changed, and its server asks with no other key until it is answered.
    let long = IssuerAsked { node: NodeId(6), ..asked(request(LONG_KEY), ROOT) };
    assert!(sign(&log, &signer, "dc2", long).await.is_ok(), "whatever the kind of its key");
}

#[tokio::test(start_paused = true)]
async fn what_may_not_be_signed_is_refused_with_its_reason_and_leaves_no_record() {
    let (log, signer) = (primary(), CountingSigner::default());
    activate(&log, NEXT_ROOT, Some(ROOT));
    let cases = [
        ("dc9", asked(request(REQUEST), NEXT_ROOT), "the datacenter `dc9` is not one of this federation"),
        ("dc2", asked(der("no request"), NEXT_ROOT), "the CSR cannot be read"),
        ("dc2", asked(request(FOREIGN), NEXT_ROOT), "the request is for the trust domain `evil.org`"),
        ("dc2", asked(request(REQUEST), KeyId([9; 20])), "there is no root"),
        ("dc2", asked(request(REQUEST), ROOT), "is retired and signs nothing more"),
    ];
    for (from, asked, reason) in cases {
        let refused = sign(&log, &signer, from, asked).await.unwrap_err();
        assert!(matches!(&refused, PrimaryError::Refused(text) if text.contains(reason)), "{reason}: {refused}");
    }
    let removed = IssuerAsked { node: NodeId(7), ..asked(request(REQUEST), NEXT_ROOT) };
    let refused = sign(&log, &signer, "dc2", removed).await.unwrap_err();
    assert_eq!(refused, PrimaryError::Refused("the datacenter `dc2` has removed its server x (7)".into()));
    let untold = IssuerAsked { node: NodeId(8), ..asked(request(REQUEST), NEXT_ROOT) };
    let refused = sign(&log, &signer, "dc2", untold).await.unwrap_err();
    let reason = "the datacenter `dc2` has not told yet that it has the server x (8)";
    assert_eq!(refused, PrimaryError::Unavailable(reason.into()), "it may tell next");
    log.apply(Command::SetHalt { halted: true });
    let refused = sign(&log, &signer, "dc2", asked(request(REQUEST), NEXT_ROOT)).await.unwrap_err();
    assert!(matches!(refused, PrimaryError::Unavailable(_)), "not for good: {refused}");
    *log.is_cut_off.lock().unwrap() = true;
    let refused = sign(&log, &signer, "dc2", asked(request(REQUEST), NEXT_ROOT)).await.unwrap_err();
    assert_eq!(refused, PrimaryError::Unavailable("no majority".into()));
    assert_eq!(log.state().remote_issuers().count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_prepared_root_signs_issuers_too() {
    let (log, signer) = (primary(), CountingSigner::default());
    prepare(&log, ROOT, NEXT_ROOT);
    sign(&log, &signer, "dc2", asked(request(REQUEST), NEXT_ROOT)).await.unwrap();
    assert_eq!(log.state().remote_issuers().next().map(|issuer| issuer.root), Some(NEXT_ROOT));
}
