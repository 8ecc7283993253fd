//! Tokens, policies and limits in a datacenter of three: what one server is told holds on every server at once, and each server
//! gives the same answer.

use carrack_tests::{
    cluster::Cluster,
    csr::{CsrKey, San, pem},
    grpc::Signer,
    http::Answer,
    server::Server,
    wait,
};
use serde_json::{Value, json};
use tonic::Code;

/// How often a token is made and deleted: each time with another pair of servers.
const ROUNDS: usize = 6;

#[test]
fn what_one_server_is_told_about_tokens_and_limits_holds_on_every_server() {
    let cluster = Cluster::form(3);
    let story = Story::of(&cluster);
    story.the_first_token_is_made_once();
    story.a_new_token_is_good_everywhere_and_a_deleted_one_nowhere();
    story.rights_come_and_go_with_policies();
    story.a_blocked_query_ends_with_its_token();
    story.every_server_refuses_alike();
    story.a_halt_holds_on_every_server();
    story.a_limit_is_told_alike_by_leader_and_followers();
    for server in &cluster.servers {
        assert!(!server.log().contains("panicked"), "{}", server.log());
    }
}

struct Story<'a> {
    cluster: &'a Cluster,
    trust_domain: String,
}

impl<'a> Story<'a> {
    fn of(cluster: &'a Cluster) -> Self {
        let status = cluster.any().status(&cluster.token).expect("a server tells its status");
        Self { cluster, trust_domain: status["TrustDomain"].as_str().expect("it has one").to_owned() }
    }

    fn servers(&self) -> &'a [Server] {
        &self.cluster.servers
    }

    fn csr(&self, service: &str) -> Vec<u8> {
        let id = format!("spiffe://{}/ns/default/dc/dc1/svc/{service}", self.trust_domain);
        CsrKey::make().request(&[San::Uri(&id)])
    }

    fn ask(&self, server: &Server, token: &str, method: &str, path: &str, body: Option<&Value>) -> Answer {
        let client = if token.is_empty() { server.client() } else { server.client().with_token(token) };
        client.send(method, path, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    fn put(&self, server: &Server, path: &str, body: &Value) -> Value {
        let answer = self.ask(server, &self.cluster.token, "PUT", path, Some(body));
        assert_eq!(answer.status, 200, "PUT {path}: {}", answer.body);
        if answer.body.is_empty() { Value::Null } else { answer.json() }
    }

    fn sign(&self, server: &Server, token: &str, service: &str) -> Answer {
        let body = json!({ "Csr": pem(&self.csr(service)) });
        self.ask(server, token, "PUT", "/v1/carrack/sign", Some(&body))
    }

    fn the_first_token_is_made_once(&self) {
        for server in self.servers() {
            let answer = self.ask(server, "", "PUT", "/v1/acl/bootstrap", None);
            assert_eq!(answer.status, 403, "{}", answer.body);
            assert!(answer.body.starts_with("Permission denied: ACL bootstrap no longer allowed"), "{}", answer.body);
        }
    }

    fn a_new_token_is_good_everywhere_and_a_deleted_one_nowhere(&self) {
        for round in 0..ROUNDS {
            let maker = &self.servers()[round % 3];
            let body = json!({ "ServiceIdentities": [{ "ServiceName": "web" }], "Description": "short" });
            let made = self.put(maker, "/v1/acl/token", &body);
            let (secret, accessor) = (text(&made, "SecretID"), text(&made, "AccessorID"));
            for server in self.servers() {
                let signed = self.sign(server, secret, "web");
                assert_eq!(signed.status, 200, "{}: {}", server.name, signed.body);
                let signer = Signer::of(server).expect("the gRPC port answers");
                signer.sign(secret, &self.csr("web")).expect("a leaf is issued");
                let leaf = self.ask(server, secret, "GET", "/v1/agent/connect/ca/leaf/web", None);
                assert_eq!(leaf.status, 200, "{}: {}", server.name, leaf.body);
            }
            let deleter = &self.servers()[(round + 1 + round / 3) % 3];
            let path = format!("/v1/acl/token/{accessor}");
            let deleted = self.ask(deleter, &self.cluster.token, "DELETE", &path, None);
            assert_eq!((deleted.status, &*deleted.body), (200, "true"));
            let counted = self.issuances_of(accessor);
            assert_eq!(counted, 9, "three leaves from each server");
            for server in self.servers() {
                let refused = self.sign(server, secret, "web");
                assert_eq!(refused.status, 403, "{}: {}", server.name, refused.body);
                let signer = Signer::of(server).expect("the gRPC port answers");
                let status = signer.sign(secret, &self.csr("web")).expect_err("its token is deleted");
                assert_eq!(status.code(), Code::PermissionDenied, "{}: {status}", server.name);
                wait::until("a kept leaf to be refused too", || {
                    let leaf = self.ask(server, secret, "GET", "/v1/agent/connect/ca/leaf/web", None);
                    wait::holds(leaf.status == 403, || leaf.status.to_string())
                });
                let read = self.ask(server, &self.cluster.token, "GET", &path, None);
                assert_eq!(read.status, 404, "{}", read.body);
            }
            assert_eq!(self.issuances_of(accessor), counted, "nothing was recorded after the deletion");
        }
    }

    /// The records of the issuance log that a token entitled.
    fn issuances_of(&self, accessor: &str) -> usize {
        let client = self.cluster.any().client().with_token(&self.cluster.token);
        let page = client.read("/v1/carrack/issuance").expect("the issuance log is read");
        let records = page["Records"].as_array().expect("it has records");
        records.iter().filter(|record| text(record, "Grant").contains(accessor)).count()
    }

    /// CVE-2020-12797 (Consul): a changed rule had no effect on what was there already.
    fn rights_come_and_go_with_policies(&self) {
        let [first, second, third] = self.servers() else { panic!("there are three servers") };
        let rules = r#"service_prefix "team-" { policy = "write" } operator = "read""#;
        let policy = self.put(first, "/v1/acl/policy", &json!({ "Name": "team", "Rules": rules }));
        let path = format!("/v1/acl/policy/{}", text(&policy, "ID"));
        let token = self.put(second, "/v1/acl/token", &json!({ "Policies": [{ "Name": "team" }] }));
        let secret = text(&token, "SecretID");
        for server in self.servers() {
            assert_eq!(self.sign(server, secret, "team-a").status, 200);
            let refused = self.sign(server, secret, "other");
            assert_eq!(refused.status, 403);
            assert!(refused.body.contains("lacks permission 'service:write' on \"other\""), "{}", refused.body);
            assert_eq!(self.ask(server, secret, "GET", "/v1/carrack/status", None).status, 200);
            assert_eq!(self.ask(server, secret, "GET", "/v1/acl/tokens", None).status, 403);
        }
        let changed = json!({ "Name": "team", "Rules": r#"service "other" { policy = "write" }"# });
        self.put(third, &path, &changed);
        for server in self.servers() {
            assert_eq!(self.sign(server, secret, "team-a").status, 403, "{}", server.name);
            let signed = wait::until("the new right", || {
                let signed = self.sign(server, secret, "other");
                wait::holds(signed.status == 200, || signed.body.clone()).map(|()| signed)
            });
            assert!(text(&signed.json(), "SpiffeID").ends_with("/svc/other"));
        }
        assert_eq!(self.ask(second, &self.cluster.token, "DELETE", &path, None).body, "true");
        for server in self.servers() {
            assert_eq!(self.sign(server, secret, "other").status, 403, "{}", server.name);
            assert_eq!(self.ask(server, &self.cluster.token, "GET", &path, None).status, 404);
        }
    }

    /// Nomad's CVE-2022-3867: a stream outlived its token.
    fn a_blocked_query_ends_with_its_token(&self) {
        let [first, second, third] = self.servers() else { panic!("there are three servers") };
        let made = self.put(first, "/v1/acl/token", &json!({ "Policies": [{ "Name": "global-management" }] }));
        let (secret, accessor) = (text(&made, "SecretID"), text(&made, "AccessorID"));
        let leaf = self.ask(second, secret, "GET", "/v1/agent/connect/ca/leaf/waits", None);
        let policies = self.ask(third, secret, "GET", "/v1/acl/policies", None);
        let index = |answer: &Answer| answer.header("x-consul-index").expect("an index").to_owned();
        let queries = [
            (second, format!("/v1/agent/connect/ca/leaf/waits?wait=15s&index={}", index(&leaf))),
            (third, format!("/v1/acl/policies?wait=15s&index={}", index(&policies))),
        ];
        let start = wait::now();
        std::thread::scope(|scope| {
            let waiting: Vec<_> = queries
                .iter()
                .map(|(server, path)| scope.spawn(move || self.ask(server, secret, "GET", path, None)))
                .collect();
            let path = format!("/v1/acl/token/{accessor}");
            assert_eq!(self.ask(first, &self.cluster.token, "DELETE", &path, None).body, "true");
            for query in waiting {
                let answer = query.join().expect("an answer comes");
                assert_eq!((answer.status, &*answer.body), (403, "ACL not found"));
            }
        });
        assert!(start.elapsed().as_secs() < 14, "the queries did not wake: {:?}", start.elapsed());
    }

    /// Consul answers 429 on its leader and 500 through another agent.
    fn every_server_refuses_alike(&self) {
        let token = self.put(&self.servers()[0], "/v1/acl/token", &json!({ "Description": "may nothing" }));
        let (powerless, management) = (text(&token, "SecretID"), &*self.cluster.token);
        let stranger = "0a0b0c0d-0000-4000-8000-000000000001";
        let management_accessor = json!({ "AccessorID": text(&token, "AccessorID"), "Description": "again" });
        let same_secret = json!({ "SecretID": powerless });
        let same_name = json!({ "Name": "global-management", "Rules": "" });
        let csr = json!({ "Csr": pem(&self.csr("web")) });
        let no_provider = json!({ "Config": {} });
        let other_provider = json!({ "Provider": "vault", "Config": { "Address": "http://127.0.0.1:8200" } });
        let requests: [(&str, &str, &str, Option<&Value>, u16); 16] = [
            ("", "GET", "/v1/acl/tokens", None, 403),
            ("", "PUT", "/v1/carrack/sign", Some(&csr), 403),
            (stranger, "GET", "/v1/acl/tokens", None, 403),
            (stranger, "PUT", "/v1/carrack/sign", Some(&csr), 403),
            (powerless, "GET", "/v1/carrack/status", None, 403),
            (powerless, "PUT", "/v1/carrack/sign", Some(&csr), 403),
            (powerless, "PUT", "/v1/connect/ca/configuration", Some(&no_provider), 403),
            (powerless, "GET", "/v1/agent/connect/ca/leaf/web", None, 403),
            (management, "GET", "/v1/acl/token/0a0b0c0d-0000-4000-8000-000000000002", None, 404),
            (management, "GET", "/v1/acl/policy/name/no-such", None, 404),
            (management, "PUT", "/v1/acl/token", Some(&management_accessor), 400),
            (management, "PUT", "/v1/acl/token", Some(&same_secret), 400),
            (management, "PUT", "/v1/acl/policy", Some(&same_name), 400),
            (management, "PUT", "/v1/connect/ca/configuration", Some(&no_provider), 400),
            (management, "PUT", "/v1/connect/ca/configuration", Some(&other_provider), 501),
            (management, "DELETE", "/v1/carrack/members/no-such", None, 404),
        ];
        for (token, method, path, body, status) in requests {
            let answers = self.servers().iter().map(|server| self.ask(server, token, method, path, body));
            let answers: Vec<Answer> = answers.collect();
            for answer in &answers {
                assert_eq!(answer.status, status, "{method} {path}: {}", answer.body);
                assert_eq!(answer.body, answers[0].body, "{method} {path}");
                let code = |answer: &Answer| answer.header("x-carrack-error-code").map(str::to_owned);
                assert!(code(answer).is_some() && code(answer) == code(&answers[0]), "{method} {path}");
            }
        }
    }

    fn a_halt_holds_on_every_server(&self) {
        self.put(&self.servers()[1], "/v1/carrack/halt", &json!({ "Halted": true }));
        for server in self.servers() {
            let refused = self.sign(server, &self.cluster.token, "web");
            assert_eq!(refused.status, 503, "{}: {}", server.name, refused.body);
            assert_eq!(refused.header("x-carrack-error-code"), Some("halted"), "{}", refused.body);
            let signer = Signer::of(server).expect("the gRPC port answers");
            let status = signer.sign(&self.cluster.token, &self.csr("web")).expect_err("issuing is halted");
            assert_eq!(status.code(), Code::FailedPrecondition, "{}: {status}", server.name);
        }
        self.put(&self.servers()[2], "/v1/carrack/halt", &json!({ "Halted": false }));
        for server in self.servers() {
            wait::until("issuing again", || {
                let signed = self.sign(server, &self.cluster.token, "web");
                wait::holds(signed.status == 200, || signed.body)
            });
        }
    }

    fn a_limit_is_told_alike_by_leader_and_followers(&self) {
        let limited = json!({ "Provider": "consul", "Config": { "CSRMaxPerSecond": 3 } });
        self.put(&self.servers()[0], "/v1/connect/ca/configuration", &limited);
        for server in self.servers() {
            let refused = wait::until("the limit", || {
                let answer = self.sign(server, &self.cluster.token, "web");
                wait::holds(answer.status != 200, || "it was signed".into()).map(|()| answer)
            });
            assert_eq!(refused.status, 429, "{}: {}", server.name, refused.body);
            assert!(refused.body.starts_with("Rate limit reached, try again later"), "{}", refused.body);
            assert_eq!(refused.header("x-carrack-error-code"), Some("rate_limited"));
            assert_eq!(refused.header("retry-after"), Some("1"), "three servers share three a second");
            let leaf = self.ask(server, &self.cluster.token, "GET", "/v1/agent/connect/ca/leaf/limited", None);
            assert_eq!((leaf.status, leaf.header("retry-after")), (429, Some("1")), "{}", leaf.body);
            let signer = Signer::of(server).expect("the gRPC port answers");
            let status = signer.sign(&self.cluster.token, &self.csr("web")).expect_err("the limit holds");
            assert_eq!(status.code(), Code::ResourceExhausted, "{}: {status}", server.name);
            // Being refused costs nothing of the rate: soon one is admitted.
            wait::until("a place", || {
                let answer = self.sign(server, &self.cluster.token, "web");
                wait::holds(answer.status == 200, || answer.status.to_string())
            });
        }
        let unlimited = json!({ "Provider": "consul", "Config": { "CSRMaxPerSecond": 0 } });
        self.put(&self.servers()[1], "/v1/connect/ca/configuration", &unlimited);
    }
}

#[track_caller]
fn text<'v>(value: &'v Value, field: &str) -> &'v str {
    value[field].as_str().unwrap_or_else(|| panic!("{field} is no text in {value}"))
}
