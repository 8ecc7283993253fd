//! Tokens and policies as Consul's JSON has them. A secret is only in the answer to the request that made it.

use std::sync::LazyLock;

use base64::{Engine, engine::general_purpose::STANDARD};
use carrack_authority::{
    State,
    acl::{AccessorId, Policy, PolicyId, Token},
    id::Revision,
    spiffe::Name,
    time::Timestamp,
};
use serde::{Serialize, Serializer};
use sha2::{Digest, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The name of the policy that allows everything.
pub(super) const GLOBAL_MANAGEMENT: &str = "global-management";
/// What that policy says, in rules that have the same meaning.
const GLOBAL_MANAGEMENT_RULES: &str = "\
acl = \"write\"
node_prefix \"\" { policy = \"write\" }
operator = \"write\"
service_prefix \"\" { policy = \"write\" }
";

/// A secret that an answer may hold, once.
pub(super) struct NewSecret(Zeroizing<String>);

impl NewSecret {
    /// The secret as text.
    pub(super) fn new(secret: &Uuid) -> Self {
        Self(Zeroizing::new(secret.hyphenated().to_string()))
    }
}

impl Serialize for NewSecret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

/// A token.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct TokenEntry {
    #[serde(rename = "AccessorID")]
    accessor_id: String,
    #[serde(rename = "SecretID", skip_serializing_if = "Option::is_none")]
    secret_id: Option<NewSecret>,
    description: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    policies: Vec<Link>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    service_identities: Vec<ServiceIdentityEntry>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    node_identities: Vec<NodeIdentityEntry>,
    local: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    auth_method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expiration_time: Option<String>,
    create_time: String,
    hash: String,
    create_index: u64,
    modify_index: u64,
}

#[derive(Serialize)]
struct Link {
    #[serde(rename = "ID")]
    id: String,
    #[serde(rename = "Name")]
    name: String,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ServiceIdentityEntry {
    service_name: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datacenters: Vec<String>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct NodeIdentityEntry {
    node_name: String,
    datacenter: String,
}

impl TokenEntry {
    /// A token as it is read: without its secret.
    pub(super) fn of(token: &Token, state: &State) -> Self {
        let service_identities = token.service_identities.iter().map(|identity| ServiceIdentityEntry {
            service_name: identity.service.to_string(),
            datacenters: texts(&identity.datacenters),
        });
        let node_identities = token.node_identities.iter().map(|identity| NodeIdentityEntry {
            node_name: identity.node.to_string(),
            datacenter: identity.datacenter.to_string(),
        });
        let mut entry = Self {
            accessor_id: token.accessor.to_string(),
            secret_id: None,
            description: token.description.clone(),
            policies: token.policies.iter().map(|id| link(*id, state)).collect(),
            service_identities: service_identities.collect(),
            node_identities: node_identities.collect(),
            local: token.is_local,
            auth_method: token.auth_method.as_ref().map(Name::to_string),
            expiration_time: token.expires_at.map(|end| end.to_string()),
            create_time: token.created_at.to_string(),
            hash: String::new(),
            create_index: token.created.0,
            modify_index: token.modified.0,
        };
        entry.hash =
            content_hash(&(&entry.description, &entry.policies, &entry.service_identities, &entry.node_identities));
        entry
    }

    /// The answer to the request that made the token.
    pub(super) fn with_secret(mut self, secret: &Uuid) -> Self {
        self.secret_id = Some(NewSecret::new(secret));
        self
    }

    /// The token that every request without one has: it exists from the start and has no rights.
    pub(super) fn anonymous() -> Self {
        let token = Token {
            accessor: AccessorId::ANONYMOUS,
            secret: carrack_authority::id::Digest([0; 32]),
            description: "Anonymous Token".into(),
            policies: Vec::new(),
            service_identities: Vec::new(),
            node_identities: Vec::new(),
            roles: Vec::new(),
            auth_method: None,
            is_local: false,
            expires_at: None,
            created_at: Timestamp::EPOCH,
            created: Revision(1),
            modified: Revision(1),
        };
        Self::of(&token, &State::default())
    }
}

/// A policy. Lists leave the rules out, as Consul's do.
#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct PolicyEntry {
    #[serde(rename = "ID")]
    id: String,
    name: String,
    description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rules: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    datacenters: Vec<String>,
    hash: String,
    create_index: u64,
    modify_index: u64,
}

impl PolicyEntry {
    /// A policy with its rules.
    pub(super) fn of(policy: &Policy) -> Self {
        Self { rules: Some(policy.source.clone()), ..Self::in_list(policy) }
    }

    /// A policy as lists have it.
    pub(super) fn in_list(policy: &Policy) -> Self {
        Self {
            id: policy.id.to_string(),
            name: policy.name.clone(),
            description: policy.description.clone(),
            rules: None,
            datacenters: texts(&policy.datacenters),
            hash: content_hash(&(&policy.name, &policy.description, &policy.source, texts(&policy.datacenters))),
            create_index: policy.created.0,
            modify_index: policy.modified.0,
        }
    }
}

/// The policy that allows everything, which the state knows without a record.
pub(super) fn global_management() -> &'static Policy {
    static POLICY: LazyLock<Policy> = LazyLock::new(|| Policy {
        id: PolicyId::GLOBAL_MANAGEMENT,
        name: GLOBAL_MANAGEMENT.into(),
        description: "Builtin Policy that grants unlimited access".into(),
        source: GLOBAL_MANAGEMENT_RULES.into(),
        rules: [].into(),
        datacenters: Vec::new(),
        created: Revision(1),
        modified: Revision(1),
    });
    &POLICY
}

fn link(id: PolicyId, state: &State) -> Link {
    let name = match state.acl().policy(id) {
        Some(policy) => policy.name.clone(),
        None if id == PolicyId::GLOBAL_MANAGEMENT => GLOBAL_MANAGEMENT.into(),
        None => String::new(),
    };
    Link { id: id.to_string(), name }
}

fn texts(names: &[Name]) -> Vec<String> {
    names.iter().map(Name::to_string).collect()
}

/// Consul's clients compare hashes to see whether the content changed; how they are made is the server's own.
fn content_hash<T: Serialize>(content: &T) -> String {
    let json = serde_json::to_vec(content).expect("texts and lists always fit JSON");
    STANDARD.encode(Sha256::digest(json))
}

#[cfg(test)]
mod tests {
    use carrack_authority::acl::{ServiceIdentity, token::secret_digest};
    use expect_test::{Expect, expect};

    use super::*;

    fn check<T: Serialize>(value: &T, expected: &Expect) {
        expected.assert_eq(&serde_json::to_string_pretty(value).unwrap());
    }

    fn token() -> Token {
        let name = |text| Name::parse("name", text).unwrap();
        Token {
            accessor: AccessorId(Uuid::from_u128(0xa)),
            secret: secret_digest(&Uuid::from_u128(0x5ec2e7)),
            description: "for web".into(),
            policies: vec![PolicyId::GLOBAL_MANAGEMENT],
            service_identities: vec![ServiceIdentity { service: name("web"), datacenters: vec![name("dc1")] }],
            node_identities: Vec::new(),
            roles: Vec::new(),
            auth_method: None,
            is_local: true,
            expires_at: Some(Timestamp::from_seconds(1_800_000_000)),
            created_at: Timestamp(1_799_990_000_250),
            created: Revision(7),
            modified: Revision(9),
        }
    }

    #[test]
    fn a_token_is_shown_as_consul_does_without_its_secret() {
        check(
            &TokenEntry::of(&token(), &State::default()),
            &expect![[r#"
            {
              "AccessorID": "00000000-0000-0000-0000-00000000000a",
              "Description": "for web",
              "Policies": [
                {
                  "ID": "00000000-0000-0000-0000-000000000001",
                  "Name": "global-management"
                }
              ],
              "ServiceIdentities": [
                {
                  "ServiceName": "web",
                  "Datacenters": [
                    "dc1"
                  ]
                }
              ],
              "Local": true,
              "ExpirationTime": "2027-01-15T08:00:00Z",
              "CreateTime": "2027-01-15T05:13:20.25Z",
              "Hash": "G28YJ0Iwb9ilgNPxfXqsEXDvksDXwuZymgcmcs+imo4=",
              "CreateIndex": 7,
              "ModifyIndex": 9
            }"#]],
        );
    }

    #[test]
    fn a_new_token_is_shown_with_its_secret() {
        let entry = TokenEntry::of(&token(), &State::default()).with_secret(&Uuid::from_u128(0x5ec2e7));
        let shown = serde_json::to_value(entry).unwrap();
        assert_eq!(shown["SecretID"], "00000000-0000-0000-0000-0000005ec2e7");
    }

    #[test]
    fn policies_are_shown_with_rules_and_listed_without() {
        check(
            &PolicyEntry::of(global_management()),
            &expect![[r#"
            {
              "ID": "00000000-0000-0000-0000-000000000001",
              "Name": "global-management",
              "Description": "Builtin Policy that grants unlimited access",
              "Rules": "acl = \"write\"\nnode_prefix \"\" { policy = \"write\" }\noperator = \"write\"\nservice_prefix \"\" { policy = \"write\" }\n",
              "Hash": "mZLI8/ET7nBbyJ0rz9ZhDkbpUE6RTNV41lLAOWwK8wQ=",
              "CreateIndex": 1,
              "ModifyIndex": 1
            }"#]],
        );
        check(
            &PolicyEntry::in_list(global_management()),
            &expect![[r#"
            {
              "ID": "00000000-0000-0000-0000-000000000001",
              "Name": "global-management",
              "Description": "Builtin Policy that grants unlimited access",
              "Hash": "mZLI8/ET7nBbyJ0rz9ZhDkbpUE6RTNV41lLAOWwK8wQ=",
              "CreateIndex": 1,
              "ModifyIndex": 1
            }"#]],
        );
    }

    #[test]
    fn the_shown_rules_of_the_built_in_policy_are_rules() {
        carrack_authority::acl::rules::parse_rules(GLOBAL_MANAGEMENT_RULES).unwrap();
    }
}
