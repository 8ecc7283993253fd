//! Connections that speak nonsense, too slowly, or with somebody else's certificate.

use std::net::SocketAddr;

use carrack_tests::{
    raw::{Raw, ask, status},
    tls::{Credential, is_served_http_2},
};

use super::Victim;

/// The beginning of a TLS record that announces a handshake and never comes to its end.
const HALF_A_HANDSHAKE: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];

#[test]
fn connections_that_speak_nonsense_or_nothing_are_ended_and_disturb_nobody() {
    let mut victim = Victim::new();
    let server = victim.server();
    let (http, https, grpc, raft) = (server.http, server.https, server.grpc, server.raft);
    // The slow ones first, so that their time runs while the others are tried.
    let slow_heads: Vec<Raw> = (0..20)
        .map(|_| {
            let mut connection = Raw::connect(http);
            connection.write("GET /v1/status/leader HTTP/1.1\r\nHo");
            connection
        })
        .collect();
    let mut slow_body = Raw::connect(http);
    let token = &victim.cluster.token;
    slow_body.write(format!(
        "PUT /v1/carrack/sign HTTP/1.1\r\nHost: a\r\nX-Consul-Token: {token}\r\nContent-Length: 90\r\n\r\n{{\"Csr\""
    ));
    let half_handshakes: Vec<Raw> = [https, grpc, raft]
        .into_iter()
        .map(|address| {
            let mut connection = Raw::connect(address);
            connection.write(HALF_A_HANDSHAKE);
            connection
        })
        .collect();
    nonsense(http, &[https, grpc, raft]);
    strangers(&victim, &[https, grpc], raft);
    for mut connection in slow_heads {
        let answer = connection.read_to_end();
        assert!(answer.is_empty() || status(&answer) == 408, "{answer}");
    }
    let answer = slow_body.read_to_end();
    assert_eq!(status(&answer), 408, "{answer}");
    assert!(answer.contains("the body did not arrive within"), "{answer}");
    for mut connection in half_handshakes {
        connection.read_to_end();
    }
    victim.assert_unharmed();
}

fn nonsense(plain: SocketAddr, secured: &[SocketAddr]) {
    let random: Vec<u8> = (0..5000_u32).map(|number| number.wrapping_mul(0x9e37_79b9).to_le_bytes()[3]).collect();
    let inputs: [&[u8]; 6] = [
        &random,
        b"\x16\x03\x01\x40\x00\xff",
        b"SSH-2.0-nobody\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        b"\0",
        b"",
    ];
    for address in secured {
        for input in inputs {
            let answer = Raw::connect(*address).write(input).finish().read_to_end();
            assert!(!answer.contains("HTTP/1.1 200"), "{address}: {answer}");
        }
    }
    for input in [&random, &HALF_A_HANDSHAKE.to_vec(), &b"GARBAGE\r\n\r\n".to_vec()] {
        let answer = Raw::connect(plain).write(input).finish().read_to_end();
        assert!(answer.is_empty() || status(&answer) == 400, "{answer}");
    }
    // An HTTP/2 connection whose first frame is a lie, and one whose frames are too long.
    for frames in [&b"\0\0\x08\x06\0\0\0\0\0too late"[..], b"\xff\xff\xff\0\0\0\0\0\x01"] {
        let beginning = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", frames].concat();
        Raw::connect(plain).write(beginning).finish().read_to_end();
    }
    let many: Vec<String> = (0..200).map(|number| format!("x-{number}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (&**name, "a")).collect();
    let (found, answer) = ask(plain, "GET /v1/status/leader", &many, &[]);
    assert_eq!(found, 431, "{answer}");
    let long = "a".repeat(100_000);
    let (found, answer) = ask(plain, "GET /v1/status/leader", &[("x-long", &long)], &[]);
    assert!([400, 431].contains(&found), "{answer}");
    let (found, answer) = ask(plain, &format!("GET /v1/status/leader?{}", "a=b&".repeat(2500)), &[], &[]);
    assert_eq!(found, 400, "{answer}");
    assert!(answer.contains("the query has more than"), "{answer}");
}

/// CVE-2021-37219: a certificate of the mesh, or one that the stranger made himself, opens no Raft port.
fn strangers(victim: &Victim, public: &[SocketAddr], raft: SocketAddr) {
    let text = |field: &str| victim.leaf[field].as_str().expect("a leaf has it");
    let leaf = Credential::from_pem(text("CertPEM"), text("PrivateKeyPEM"));
    let own = rcgen::generate_simple_self_signed(["a.server.dc1".to_owned()]).expect("anybody can make one");
    let own = Credential::from_pem(&own.cert.pem(), &own.signing_key.serialize_pem());
    for (who, credential) in [("nobody", None), ("a leaf", Some(&leaf)), ("a self-made server", Some(&own))] {
        let refusal = is_served_http_2(raft, credential).expect_err(who);
        assert!(!refusal.contains("timed out"), "{who} was left waiting: {refusal}");
        for address in public {
            assert_eq!(is_served_http_2(*address, credential), Ok(()), "{who} on {address}");
        }
    }
}
