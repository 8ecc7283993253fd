//! The hash chain over the issuance log: SHA-256 over the head before and an encoding of the record that never changes.
//!
//! `head(n) = SHA-256("carrack issuance v1\0" || head(n-1) || record)`, integers big-endian, texts and byte strings with a
//! 32-bit length before them; `head(0)` is all zeros. Whoever follows the log checks it with this page alone.

use sha2::{Digest as _, Sha256};

use super::record::{Grant, Holder, Issuance, Keeper};
use crate::{id::Digest, spiffe::Identity, time::Timestamp};

/// The head before the first record.
pub const EMPTY_HEAD: Digest = Digest([0; 32]);

/// The head after a record.
pub fn link(head: &Digest, sequence: u64, index: u64, recorded_at: Timestamp, issuance: &Issuance) -> Digest {
    Linked { sequence, index, recorded_at, issuance, name: &issuance.identity.to_string() }.after(head)
}

/// What a link covers beside the head before it.
pub(super) struct Linked<'a> {
    pub(super) sequence: u64,
    pub(super) index: u64,
    pub(super) recorded_at: Timestamp,
    pub(super) issuance: &'a Issuance,
    /// The identity as text.
    pub(super) name: &'a str,
}

impl Linked<'_> {
    /// The head after it.
    pub(super) fn after(&self, head: &Digest) -> Digest {
        let issuance = self.issuance;
        let mut hash = Sha256::new();
        hash.update(b"carrack issuance v1\0");
        hash.update(head.0);
        for number in [self.sequence, self.index, self.recorded_at.0] {
            hash.update(number.to_be_bytes());
        }
        hash.update(issuance.serial.0);
        let kind = match *issuance.identity {
            Identity::Spiffe(_) => 1,
            Identity::LinkerdDns(_) => 2,
        };
        tagged(&mut hash, kind, self.name.as_bytes());
        grant(&mut hash, &issuance.grant);
        hash.update(issuance.public_key.0);
        hash.update(issuance.certificate.0);
        hash.update(issuance.not_before.0.to_be_bytes());
        hash.update(issuance.not_after.0.to_be_bytes());
        hash.update(issuance.issuer.0);
        holder(&mut hash, &issuance.holder);
        hash.update(issuance.deadline.0.to_be_bytes());
        Digest(hash.finalize().into())
    }
}

/// 64 bits by which a holder and an identity's text are found together. Another pair may have the same.
pub(super) fn fingerprint(of: &Holder, name: &str) -> u64 {
    let mut hash = Sha256::new();
    holder(&mut hash, of);
    hash.update(name);
    hash.finalize().iter().take(8).fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn holder(hash: &mut Sha256, holder: &Holder) {
    match &holder.keeper {
        Keeper::Agent(node) => tagged(hash, 1, node.as_str().as_bytes()),
        Keeper::Login(accessor) => tagged(hash, 2, accessor.0.as_bytes()),
        Keeper::Server(node) => tagged(hash, 3, &node.0.to_be_bytes()),
    }
    bytes(hash, holder.slot.as_bytes());
}

fn grant(hash: &mut Sha256, grant: &Grant) {
    match grant {
        Grant::Token(accessor) => tagged(hash, 1, accessor.0.as_bytes()),
        Grant::Review(review) => {
            tagged(hash, 2, review.method.as_str().as_bytes());
            hash.update(review.digest.0);
        }
        Grant::Agent(node) => tagged(hash, 3, node.as_str().as_bytes()),
    }
}

fn tagged(hash: &mut Sha256, tag: u8, value: &[u8]) {
    hash.update([tag]);
    bytes(hash, value);
}

fn bytes(hash: &mut Sha256, value: &[u8]) {
    let length = u32::try_from(value.len()).expect("names and ids are shorter than 4 GiB: each has a bound");
    hash.update(length.to_be_bytes());
    hash.update(value);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        acl::AccessorId,
        id::{KeyId, NodeId, Serial},
        issuance::Review,
        spiffe::Name,
    };

    fn name(text: &str) -> Name {
        Name::parse("name", text).unwrap()
    }

    fn example() -> Issuance {
        Issuance {
            serial: Serial([1; 20]),
            identity: Arc::new(Identity::Spiffe("spiffe://example.org/ns/default/dc/dc1/svc/web".parse().unwrap())),
            grant: Arc::new(Grant::Token(AccessorId(uuid::Uuid::from_u128(2)))),
            public_key: Digest([3; 32]),
            certificate: Digest([4; 32]),
            not_before: Timestamp(5),
            not_after: Timestamp(6),
            issuer: KeyId([7; 20]),
            holder: Arc::new(Holder { keeper: Keeper::Server(NodeId(8)), slot: "slot".into() }),
            deadline: Timestamp(9),
        }
    }

    fn link_of(issuance: &Issuance) -> Digest {
        link(&Digest([10; 32]), 11, 12, Timestamp(13), issuance)
    }

    #[test]
    fn a_link_is_the_hash_of_the_encoding_that_this_page_tells() {
        let text = b"spiffe://example.org/ns/default/dc/dc1/svc/web";
        let numbers = |of: [u64; 3]| of.map(u64::to_be_bytes).concat();
        let encoded = [
            b"carrack issuance v1\0".to_vec(),
            vec![10; 32],
            numbers([11, 12, 13]),
            vec![1; 20],
            [&[1, 0, 0, 0, 46], &text[..]].concat(),
            [&[1, 0, 0, 0, 16][..], &2_u128.to_be_bytes()].concat(),
            vec![3; 32],
            vec![4; 32],
            [5_u64.to_be_bytes(), 6_u64.to_be_bytes()].concat(),
            vec![7; 20],
            [&[3, 0, 0, 0, 8][..], &8_u64.to_be_bytes(), &[0, 0, 0, 4], b"slot"].concat(),
            9_u64.to_be_bytes().to_vec(),
        ];
        assert_eq!(link_of(&example()), Digest(Sha256::digest(encoded.concat()).into()));
        let pinned = "2870e776471eafa6f2e5dafc1cbb0c10d6f27b6c883a4f46b6720568b67a482c";
        assert_eq!(link_of(&example()).to_string(), pinned);
    }

    #[test]
    fn every_field_and_every_kind_of_it_changes_the_link() {
        let holder = |keeper, slot: &str| Arc::new(Holder { keeper, slot: slot.into() });
        let review = Review { method: name("k8s"), digest: Digest([2; 32]) };
        let all = [
            example(),
            Issuance { serial: Serial([2; 20]), ..example() },
            Issuance { identity: Arc::new(Identity::LinkerdDns(example().identity.to_string().into())), ..example() },
            Issuance { grant: Arc::new(Grant::Agent(name("a"))), ..example() },
            Issuance { grant: Arc::new(Grant::Review(Arc::new(review))), ..example() },
            Issuance { public_key: Digest([0; 32]), ..example() },
            Issuance { certificate: Digest([0; 32]), ..example() },
            Issuance { not_before: Timestamp(0), ..example() },
            Issuance { not_after: Timestamp(0), ..example() },
            Issuance { issuer: KeyId([0; 20]), ..example() },
            Issuance { holder: holder(Keeper::Server(NodeId(9)), "slot"), ..example() },
            Issuance { holder: holder(Keeper::Server(NodeId(8)), ""), ..example() },
            Issuance { holder: holder(Keeper::Agent(name("a")), "slot"), ..example() },
            Issuance { holder: holder(Keeper::Login(AccessorId(uuid::Uuid::nil())), "slot"), ..example() },
            Issuance { deadline: Timestamp(0), ..example() },
        ];
        let mut links: Vec<Digest> = all.iter().map(link_of).collect();
        links.push(link(&Digest([0; 32]), 11, 12, Timestamp(13), &example()));
        links.push(link(&Digest([10; 32]), 0, 12, Timestamp(13), &example()));
        links.push(link(&Digest([10; 32]), 11, 0, Timestamp(13), &example()));
        links.push(link(&Digest([10; 32]), 11, 12, Timestamp(0), &example()));
        let count = links.len();
        links.sort();
        links.dedup();
        assert_eq!(links.len(), count);
    }
}
