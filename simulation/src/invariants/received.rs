//! What a client has received: the one identity that it asked for (X509-SVID section 2), for its own key, within its issuer's life
//! (RFC 5280 section 4.1.2.5), with a chain that leads to the roots it was told, in order, complete and without a root.

use carrack_authority::{
    key::PublicKey,
    spiffe::Identity,
    x509::{
        CertificateFacts,
        chain::{Usage, verify_path},
        pem,
    },
};

use crate::{client::Answer, workloads::Leaf, world::shared::Shared};

/// Examines a leaf at the moment when a client receives it.
pub fn examine(shared: &Shared, leaf: &Leaf, identity: &Identity, key: &PublicKey, answer: &Answer) {
    let facts = CertificateFacts::read(leaf.certificate.as_bytes()).expect("it was read before");
    if facts.uris != [identity.to_string()] || !facts.dns_names.is_empty() || !facts.ip_addresses.is_empty() {
        shared.violate(
            "exactly_one_identity",
            format!("{identity} was asked for, the leaf has {:?} {:?}", facts.uris, facts.dns_names),
        );
    }
    if facts.public_key != *key {
        shared.violate("exactly_one_identity", format!("the leaf of {identity} is for another key than the request's"));
    }
    let json = answer.json();
    for field in ["CertPEM", "ChainPEM", "RootsPEM"] {
        if !json[field].as_str().is_some_and(|text| text.ends_with("-----\n")) {
            shared.violate("served_chain_minimal", format!("{field} of {identity} does not end in a newline"));
        }
    }
    let roots = pem::decode_certificates(json["RootsPEM"].as_str().unwrap_or_default()).unwrap_or_default();
    let anchors: Vec<&[u8]> = roots.iter().map(|root| root.as_bytes()).collect();
    let intermediates: Vec<&[u8]> = leaf.chain.iter().map(|der| der.as_bytes()).collect();
    let now = shared.clock.now();
    for usage in [Usage::Client, Usage::Server] {
        if let Err(error) = verify_path(leaf.certificate.as_bytes(), &intermediates, &anchors, now, usage) {
            shared.violate("every_live_leaf_verifies", format!("the leaf of {identity} just received: {error}"));
        }
    }
    nests(shared, &facts, leaf);
}

fn nests(shared: &Shared, facts: &CertificateFacts, leaf: &Leaf) {
    let mut inner = facts.clone();
    for outer in leaf.chain.iter().filter_map(|der| CertificateFacts::read(der.as_bytes()).ok()) {
        if inner.issuer != outer.subject {
            break;
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
