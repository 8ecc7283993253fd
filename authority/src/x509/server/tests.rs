//! Certificates of the server CA.

use std::{net::Ipv4Addr, sync::Arc};

use expect_test::expect;

use super::*;
use crate::{
    key::KeyKind,
    x509::testing::{DAY, NOW, TestSigner, authority, describe, key, name, serial},
};

const CLUSTER: Uuid = Uuid::from_u128(0x1234_5678_9abc_4def_8123_4567_89ab_cdef);

fn make_root(signer: &dyn Signer) -> SignedCertificate {
    let profile =
        ServerRootProfile { cluster: &CLUSTER, datacenter: &name("dc1"), serial: serial(1), now: NOW, ttl: DAY * 3650 };
    server_root(signer, &profile).unwrap()
}

fn make_server(dns_names: &[DnsName]) -> Result<SignedCertificate, IssueError> {
    let signer = Arc::new(TestSigner::seeded(1));
    let root = authority(&make_root(&*signer), signer);
    let id = ServerId { cluster: CLUSTER, datacenter: name("dc1"), node: NodeId(7) };
    let csr = VerifiedServerCsr::of_own_key(&TestSigner::seeded(2));
    let ip_addresses = &[IpAddr::V4(Ipv4Addr::LOCALHOST)];
    let (id, csr, ttl) = (&id, &csr, DAY * 30);
    server(&root, &ServerProfile { csr, id, dns_names, ip_addresses, serial: serial(2), now: NOW, ttl })
}

#[test]
fn the_root_of_the_server_ca_names_its_cluster() {
    expect![[r#"
        serial 01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01:01
        issuer O=12345678-9abc-4def-8123-456789abcdef.cluster.carrack, CN=carrack server root dc1 34750f98bd59fcfc
        subject O=12345678-9abc-4def-8123-456789abcdef.cluster.carrack, CN=carrack server root dc1 34750f98bd59fcfc
        from 2026-11-22 11:59:00.0 +00:00:00 to 2036-11-19 12:00:00.0 +00:00:00
        signed by 1.3.101.112
        names [URI("spiffe://12345678-9abc-4def-8123-456789abcdef.cluster.carrack")]
        critical key usage Key Cert Sign, CRL Sign
        subject key identifier 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5
        critical CA true, path length None
    "#]]
    .assert_eq(&describe(&make_root(&TestSigner::seeded(1))));
}

#[test]
fn a_server_certificate_names_datacenter_and_node_id() {
    let certificate = make_server(&["localhost".parse().unwrap(), "node-a".parse().unwrap()]).unwrap();
    expect![[r#"
        serial 02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02:02
        issuer O=12345678-9abc-4def-8123-456789abcdef.cluster.carrack, CN=carrack server root dc1 34750f98bd59fcfc
        subject 
        from 2026-11-22 11:59:00.0 +00:00:00 to 2026-12-22 12:00:00.0 +00:00:00
        signed by 1.3.101.112
        authority key identifier 34:75:0f:98:bd:59:fc:fc:94:6d:a4:5a:aa:be:93:3b:e1:54:a4:b5
        critical names [URI("spiffe://12345678-9abc-4def-8123-456789abcdef.cluster.carrack/dc/dc1/server/7"), DNSName("localhost"), DNSName("node-a"), IPAddress([127, 0, 0, 1])]
        critical key usage Digital Signature
        purposes: server true, client true
        subject key identifier 6a:38:03:d5:f0:59:90:2a:1c:6d:af:bc:9b:a4:72:92:12:f7:ca:ac
        critical CA false, path length None
    "#]].assert_eq(&describe(&certificate));
    let id: ServerId = certificate.facts.uris[0].parse().unwrap();
    assert_eq!(id.node, NodeId(7));
}

#[test]
fn the_server_ca_works_with_each_kind_of_key() {
    for kind in KeyKind::ALL {
        assert!(make_root(&*key(kind)).facts.is_ca);
    }
}

#[test]
fn the_names_of_a_server_are_bounded() {
    let names = vec!["a.example.org".parse().unwrap(); SERVER_NAMES_MAX];
    assert!(matches!(make_server(&names), Err(IssueError::TooManyNames { count: 33, count_max: 32 })));
}

#[test]
fn a_server_id_is_written_in_one_way() {
    let good = format!("spiffe://{CLUSTER}.cluster.carrack/dc/dc1/server/7");
    assert_eq!(good.parse::<ServerId>().unwrap().to_string(), good);
    for bad in [
        good.replace("/7", "/07"),
        good.replace("/7", "/+7"),
        good.replace("/7", "/"),
        good.replace("/7", "/7/"),
        good.replace("/7", "/18446744073709551616"),
        good.replace("9abc", "9ABC"),
        good.replace('-', ""),
        good.replace("dc1", ".."),
        good.replace("spiffe", "https"),
        good.replace(".cluster.carrack", ".example.org"),
        "spiffe://example.org/ns/default/dc/dc1/svc/web".into(),
    ] {
        assert!(bad.parse::<ServerId>().is_err(), "{bad}");
    }
}
