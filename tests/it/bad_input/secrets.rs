//! What is no token's secret opens nothing, on HTTP and on gRPC (CVE-2019-8336: a redaction marker became a secret).

use carrack_authority::acl::token::secret_digest;
use carrack_tests::{
    csr::{CsrKey, San, pem},
    grpc::Signer,
    raw,
};
use serde_json::json;
use tonic::Code;
use uuid::Uuid;

use super::{Victim, assert_refused, assert_sentence};

#[test]
fn what_is_nobodys_secret_opens_nothing_and_a_good_one_only_its_own_service() {
    let mut victim = Victim::new();
    let signer = Signer::of(victim.server()).expect("the gRPC port answers");
    let csr = CsrKey::make().request(&[San::Uri(&victim.id("web"))]);
    let body = json!({ "Csr": pem(&csr) });
    let token = victim.token_of("db");
    let text = |field: &str| token[field].as_str().expect("a token has it").to_owned();
    let (secret, accessor) = (text("SecretID"), text("AccessorID"));
    let management: Uuid = victim.cluster.token.parse().expect("a secret is a UUID");
    let digest = secret_digest(&management);
    let of_digest = Uuid::from_slice(&digest.0[..16]).expect("a UUID has 16 bytes").to_string();
    for nobodys in [
        "<hidden>",
        "anonymous",
        "null",
        "*",
        &accessor,
        &digest.to_string(),
        &of_digest,
        "00000000-0000-0000-0000-000000000000",
        "00000000-0000-0000-0000-000000000001",
        "00000000-0000-0000-0000-000000000002",
        &management.simple().to_string(),
        &management.braced().to_string(),
        &management.urn().to_string(),
        &format!("{management}x"),
        &victim.cluster.token[..35],
        &"a".repeat(4096),
    ] {
        for path in ["/v1/carrack/sign", "/v1/acl/token", "/v1/connect/ca/configuration", "/v1/carrack/join-token"] {
            let answer = victim.server().client().with_token(nobodys).send("PUT", path, Some(&body));
            assert_refused(
                &format!("{path} with {nobodys:?}"),
                &answer.expect("an answer comes"),
                403,
                "ACL not found",
            );
        }
        let status = signer.sign(nobodys, &csr).expect_err(nobodys);
        assert_eq!((status.code(), status.message()), (Code::PermissionDenied, "ACL not found"), "{nobodys:?}");
    }
    let none = victim.server().client().send("PUT", "/v1/carrack/sign", Some(&body)).expect("an answer comes");
    assert_refused("no secret", &none, 403, "Permission denied: anonymous token");
    let empty = victim.server().client().with_token("").send("PUT", "/v1/carrack/sign", Some(&body));
    assert_refused("an empty secret", &empty.expect("an answer comes"), 403, "Permission denied: anonymous token");
    assert_eq!(signer.sign("", &csr).expect_err("no secret").code(), Code::Unauthenticated);
    let headers = [("X-Consul-Token", "\u{1}\u{7f}"), ("Content-Length", "0")];
    assert_eq!(raw::ask(victim.server().http, "PUT /v1/carrack/sign", &headers, &[]).0, 400);

    let lacks = format!("token with AccessorID '{accessor}' lacks permission 'service:write' on \"web\"");
    let other = victim.server().client().with_token(&secret);
    let answer = other.send("PUT", "/v1/carrack/sign", Some(&body)).expect("an answer comes");
    assert_refused("another service's token", &answer, 403, &lacks);
    let answer = other.send("GET", "/v1/agent/connect/ca/leaf/web", None).expect("an answer comes");
    assert_refused("another service's token", &answer, 403, &lacks);
    let status = signer.sign(&secret, &csr).expect_err("another service's token");
    assert_eq!(status.code(), Code::PermissionDenied);
    assert_sentence("another service's token", status.message(), &lacks);
    let dns = format!("web.default.serviceaccount.identity.linkerd.{}", victim.trust_domain);
    let linkerd = json!({ "Csr": pem(&CsrKey::make().request(&[San::Dns(&dns)])) });
    let answer = victim.management().send("PUT", "/v1/carrack/sign", Some(&linkerd)).expect("an answer comes");
    assert_refused("a Linkerd name", &answer, 403, "not to DNS names");
    victim.assert_unharmed();
}
