//! Bodies that are no requests: cut, huge, nested without end, with fields that nobody knows. The attacker has stolen the
//! operator's token for this: that a body is refused must not hang on the token.

use bytes::Bytes;
use rand::{RngExt, seq::IndexedRandom};

use super::Attacker;
use crate::{client::Call, workloads::ANSWER_WITHIN};

/// Routes that take a body.
const PATHS: [&str; 5] =
    ["/v1/acl/policy", "/v1/acl/token", "/v1/carrack/sign", "/v1/carrack/join-token", "/v1/carrack/halt"];
/// More than any route reads.
const HUGE_BYTES: usize = 200 * 1024;
/// Deeper than any request, and far below what is too long.
const DEPTH: usize = 10_000;

impl Attacker {
    pub(super) async fn send_body(&mut self) -> (&'static str, String) {
        let path = *PATHS.choose(&mut self.worker.random).expect("there are routes");
        let name = format!("attack-{}", self.worker.random.random_range(0..u32::MAX));
        let (what, body) = match self.worker.random.random_range(0..5) {
            0 => ("a body that is cut", format!("{{\"Name\":\"{name}\",\"Rules\":\"").into_bytes()),
            1 => ("a body that is too long", huge(&name)),
            2 => ("a body that is too deep", "[".repeat(DEPTH).into_bytes()),
            3 => ("a body that is no text", vec![0xff; 100]),
            _ => ("a body with an unknown field", unknown_field(path, &name).into_bytes()),
        };
        self.worker.client.set_token(self.worker.shared.operator_token());
        let host = self.worker.any_server();
        let call = Call { method: "PUT", path, body: None, within: ANSWER_WITHIN };
        let answer = self.worker.client.call_with(&host, call, Bytes::from(body)).await;
        if let Ok(answer) = &answer
            && answer.status == 500
        {
            let text = format!("{what} to {path} is answered 500 {}", answer.text());
            self.worker.shared.violate("default_deny", text);
        }
        (what, self.must_be_refused("default_deny", &format!("{what} to {path}"), answer))
    }
}

fn huge(name: &str) -> Vec<u8> {
    format!("{{\"Name\":\"{name}\",\"Rules\":\"{}\"}}", "#".repeat(HUGE_BYTES)).into_bytes()
}

/// A request that would be good without one of its fields.
fn unknown_field(path: &str, name: &str) -> String {
    match path {
        "/v1/acl/policy" => format!("{{\"Name\":\"{name}\",\"Rules\":\"\",\"Surprise\":1}}"),
        "/v1/acl/token" => format!("{{\"Description\":\"{name}\",\"Surprise\":1}}"),
        "/v1/carrack/join-token" => format!("{{\"NodeName\":\"{name}\",\"Surprise\":1}}"),
        "/v1/carrack/halt" => "{\"Halted\":true,\"Surprise\":1}".into(),
        _ => "{\"Csr\":\"\",\"Surprise\":1}".into(),
    }
}
