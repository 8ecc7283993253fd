//! What a client has received: the one identity that it asked for (X509-SVID section 2), for its own key, within its issuer's life
//! (RFC 5280 section 4.1.2.5), with a chain that leads to the roots it was told, in order, complete and without a root.

use carrack_authority::{
    key::PublicKey,
    spiffe::Identity,
    time::Timestamp,
    x509::{
        CertificateFacts,
        extension::{KeyUsages, Purpose},
        pem,
    },
};

use super::every_live_leaf_verifies::{self, verify_twice};
use crate::{
    client::Answer,
    workloads::{ANSWER_WITHIN, Leaf},
    world::shared::Shared,
};

/// A clock that is behind by more may lead to leaves that have ended: they live for an hour at least.
const BEHIND_MS: i64 = 3_600_000 / 2;

/// Examines a leaf at the moment when a client receives it. `asked`: the true time when it was asked for.
pub fn examine(shared: &Shared, leaf: &Leaf, identity: &Identity, key: &PublicKey, answer: &Answer, asked: Timestamp) {
    let facts = CertificateFacts::read(leaf.certificate.as_bytes()).expect("it was read before");
    if let Some(text) = differs(&facts, identity, key) {
        shared.violate("exactly_one_identity", text);
    }
    let json = answer.json();
    for field in ["CertPEM", "ChainPEM", "RootsPEM"] {
        if !json[field].as_str().is_some_and(|text| text.ends_with("-----\n")) {
            shared.violate("served_chain_minimal", format!("{field} of {identity} does not end in a newline"));
        }
    }
    let roots = pem::decode_certificates(json["RootsPEM"].as_str().unwrap_or_default()).unwrap_or_default();
    if leaf.chain.iter().any(|der| roots.contains(der)) {
        shared.violate("served_chain_minimal", format!("a root is served with the leaf of {identity}"));
    }
    let anchors: Vec<&[u8]> = roots.iter().map(|root| root.as_bytes()).collect();
    let intermediates: Vec<&[u8]> = leaf.chain.iter().map(|der| der.as_bytes()).collect();
    // A world that slept while the answer was on its way: the leaf has perhaps ended since.
    let now = shared.clock.now();
    let now = if now.since(asked) > ANSWER_WITHIN * 2 { asked } else { now };
    // Of two clocks the earlier one counts: a leader that reaches no third one issues in the past, where the leaf is good.
    let now = if is_any_clock_behind(shared) { now.min(leaf.not_after) } else { now };
    if let Err(error) = verify_twice(leaf.certificate.as_bytes(), &intermediates, &anchors, now) {
        let text = format!("the leaf of {identity} just received: {error}");
        shared.violate(every_live_leaf_verifies::NAME, text);
    }
    nests(shared, &facts, leaf);
}

fn is_any_clock_behind(shared: &Shared) -> bool {
    shared.servers.values().any(|server| server.belongs() && server.clock.ahead() < -BEHIND_MS)
}

/// What a leaf has that was not asked for, or lacks.
pub fn differs(facts: &CertificateFacts, identity: &Identity, key: &PublicKey) -> Option<String> {
    let is_both = [Purpose::ClientAuth, Purpose::ServerAuth].iter().all(|it| facts.purposes.contains(it));
    let what = if facts.uris != [identity.to_string()] || !facts.dns_names.is_empty() || !facts.ip_addresses.is_empty()
    {
        format!("the names {:?} {:?}", facts.uris, facts.dns_names)
    } else if facts.public_key != *key {
        "another key than the request's".into()
    } else if facts.is_ca || facts.key_usages != Some(KeyUsages::DIGITAL_SIGNATURE) || !is_both {
        format!("the CA bit {}, the usages {:?} and the purposes {:?}", facts.is_ca, facts.key_usages, facts.purposes)
    } else if !facts.has_empty_subject() {
        "a subject".into()
    } else {
        return None;
    };
    Some(format!("{identity} was asked for, the leaf has {what}"))
}

/// Finds a chain whose parts do not follow each other, or whose lives do not nest.
pub fn nests(shared: &Shared, facts: &CertificateFacts, leaf: &Leaf) {
    let mut inner = facts.clone();
    for outer in leaf.chain.iter().filter_map(|der| CertificateFacts::read(der.as_bytes()).ok()) {
        if inner.issuer != outer.subject || inner.authority_key_id != outer.key_id {
            let text =
                format!("{:?} does not follow {:?} in the chain of {}", outer.key_id, inner.key_id, leaf.identity);
            return shared.violate("served_chain_minimal", text);
        }
        if inner.not_after > outer.not_after || inner.not_before < outer.not_before {
            let text = format!(
                "{} .. {} is not within {} .. {}",
                inner.not_before, inner.not_after, outer.not_before, outer.not_after
            );
            shared.violate("validity_nests", text);
        }
        inner = outer;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::{seen::Told, testing};

    #[test]
    fn a_leaf_with_a_subject_another_name_or_another_key_is_found() {
        let Told::LeafReceived { certificate, identity, .. } = testing::received(0) else { panic!("it is a leaf") };
        let facts = CertificateFacts::read(certificate.as_bytes()).unwrap();
        let good = CertificateFacts {
            subject: carrack_authority::key::Der::from(&[0x30, 0][..]),
            key_usages: Some(KeyUsages::DIGITAL_SIGNATURE),
            purposes: vec![Purpose::ClientAuth, Purpose::ServerAuth],
            ..facts.clone()
        };
        let identity = Identity::Spiffe(identity.parse().unwrap());
        assert_eq!(differs(&good, &identity, &facts.public_key), None);
        assert!(differs(&facts, &identity, &facts.public_key).is_some());
        let two = CertificateFacts { uris: [good.uris.clone(), good.uris.clone()].concat(), ..good.clone() };
        assert!(differs(&two, &identity, &facts.public_key).is_some());
        let ca = CertificateFacts { is_ca: true, ..good };
        assert!(differs(&ca, &identity, &facts.public_key).is_some());
    }
}
