//! Which other datacenters this server trusts, each by its own roots only: swapped as one when the replicated state
//! changes. A root of one datacenter never vouches for a server of another, and a bad one never shuts out a second one.

use std::{collections::BTreeMap, fmt, sync::Arc};

use arc_swap::ArcSwap;
use carrack_authority::{
    federation::{DATACENTERS_MAX, KnownServers},
    key::Der,
    root::ROOTS_MAX,
    spiffe::Name,
    x509::{CertificateFacts, ServerId},
};
use rustls::pki_types::TrustAnchor;
use tokio::sync::watch;
use uuid::Uuid;

use super::{
    peer::PeerRefusal,
    trust::{BadRoot, anchor},
    verifier::is_root_of,
};

/// The most other datacenters: each keeps connections to this server, and
/// [`Limits::WAN`](super::acceptor::Limits::WAN) has room for as many.
pub const DATACENTERS_TRUSTED_MAX: usize = DATACENTERS_MAX;
/// The most roots of one datacenter: its server CA has no more, and a path is looked for under each of them.
pub const ROOTS_TRUSTED_MAX: usize = ROOTS_MAX;

/// Another datacenter, as the replicated state records it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedDatacenter {
    /// Its name.
    pub name: Name,
    /// Its cluster.
    pub cluster: Uuid,
    /// The bundle of its server CA, each root in DER.
    pub roots: Vec<Der>,
    /// Its servers, if it has told: those that it removed are let in no more.
    pub servers: Option<KnownServers>,
}

/// Something that is recorded of another datacenter and cannot be used. Everything else is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTrusted {
    /// A root.
    #[error("a root of datacenter {datacenter} is passed over: its servers are let in by its other roots only")]
    Root {
        /// Whose root it is.
        datacenter: Name,
        /// Which one, and what is wrong.
        source: BadRoot,
    },
    /// The roots after the limit.
    #[error("datacenter {datacenter} has {count} roots: only the first {count_max} are trusted")]
    TooManyRoots {
        /// Whose roots they are.
        datacenter: Name,
        /// How many there are.
        count: usize,
        /// The limit.
        count_max: usize,
    },
    /// A second cluster of the same name.
    #[error("datacenter {datacenter} is recorded a second time, as cluster {cluster}: only the first is trusted")]
    NamedTwice {
        /// The name.
        datacenter: Name,
        /// The cluster that is passed over.
        cluster: Uuid,
    },
    /// A datacenter after the limit.
    #[error("datacenter {datacenter} is passed over: at most {count_max} other datacenters are trusted")]
    TooManyDatacenters {
        /// Which one.
        datacenter: Name,
        /// The limit.
        count_max: usize,
    },
}

/// The handle that the rule of the WAN port reads and the owner of the replicated state writes.
pub struct WanTrust {
    own_datacenter: Name,
    own_cluster: Uuid,
    current: ArcSwap<Datacenters>,
    changes: watch::Sender<u64>,
}

/// What the rule uses: the datacenters with their roots decoded.
#[derive(Default)]
struct Datacenters {
    recorded: Vec<TrustedDatacenter>,
    by_name: BTreeMap<Name, Anchored>,
}

struct Anchored {
    cluster: Uuid,
    anchors: Vec<TrustAnchor<'static>>,
    servers: Option<KnownServers>,
}

impl WanTrust {
    /// What a server of this datacenter and cluster begins with: it trusts no other datacenter.
    pub fn new(datacenter: Name, cluster: Uuid) -> Self {
        let (current, changes) = (ArcSwap::default(), watch::Sender::new(0));
        Self { own_datacenter: datacenter, own_cluster: cluster, current, changes }
    }

    /// Replaces the datacenters that are trusted. Connections that they do not cover any more end. This server's own
    /// datacenter is passed over: its servers speak on the Raft port. The answer is what cannot be used, told once: an
    /// unchanged list changes nothing and answers nothing.
    pub fn replace(&self, datacenters: Vec<TrustedDatacenter>) -> Vec<NotTrusted> {
        if self.current.load().recorded == datacenters {
            return Vec::new();
        }
        let mut problems = Vec::new();
        let by_name = self.anchored(&datacenters, &mut problems);
        self.current.store(Arc::new(Datacenters { recorded: datacenters, by_name }));
        self.changes.send_modify(|count| *count += 1);
        problems
    }

    fn anchored(&self, datacenters: &[TrustedDatacenter], problems: &mut Vec<NotTrusted>) -> BTreeMap<Name, Anchored> {
        let mut by_name = BTreeMap::new();
        for datacenter in datacenters.iter().filter(|datacenter| datacenter.name != self.own_datacenter) {
            let TrustedDatacenter { name, cluster, servers, .. } = datacenter;
            if by_name.contains_key(name) {
                problems.push(NotTrusted::NamedTwice { datacenter: name.clone(), cluster: *cluster });
            } else if by_name.len() >= DATACENTERS_TRUSTED_MAX {
                let count_max = DATACENTERS_TRUSTED_MAX;
                problems.push(NotTrusted::TooManyDatacenters { datacenter: name.clone(), count_max });
            } else {
                let (anchors, servers) = (anchors(datacenter, problems), servers.clone());
                by_name.insert(name.clone(), Anchored { cluster: *cluster, anchors, servers });
            }
        }
        by_name
    }

    /// The roots that may vouch for this server: those of exactly its datacenter and cluster.
    pub(super) fn anchors_for(&self, server: &ServerId) -> Result<Vec<TrustAnchor<'static>>, PeerRefusal> {
        let ServerId { datacenter, cluster, .. } = server;
        let current = self.current.load();
        let known = current.by_name.get(datacenter);
        let expected = match known {
            Some(known) => known.cluster,
            None if *datacenter == self.own_datacenter => self.own_cluster,
            None => {
                return Err(PeerRefusal::UnknownDatacenter { datacenter: datacenter.clone(), cluster: *cluster });
            }
        };
        if expected != *cluster {
            let (datacenter, found) = (datacenter.clone(), *cluster);
            return Err(PeerRefusal::OtherClusterOf { datacenter, found, expected });
        }
        match known {
            Some(known) => Ok(known.anchors.clone()),
            None => Err(PeerRefusal::OwnDatacenter { node: server.node, datacenter: datacenter.clone() }),
        }
    }

    /// Refuses a server that its datacenter has removed, for as long as its certificate lasts.
    pub(super) fn check_present(&self, server: &ServerId) -> Result<(), PeerRefusal> {
        let current = self.current.load();
        let known = current.by_name.get(&server.datacenter).and_then(|known| known.servers.as_ref());
        match known {
            Some(servers) if servers.is_removed(server.node) => {
                Err(PeerRefusal::RemovedElsewhere { server: server.clone() })
            }
            _ => Ok(()),
        }
    }

    /// Tells of each replacement.
    pub(super) fn subscribe(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }
}

impl fmt::Debug for WanTrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "WanTrust of {} in {:?}", self.own_datacenter, self.current.load().recorded)
    }
}

fn anchors(datacenter: &TrustedDatacenter, problems: &mut Vec<NotTrusted>) -> Vec<TrustAnchor<'static>> {
    let TrustedDatacenter { name, cluster, roots, .. } = datacenter;
    if roots.len() > ROOTS_TRUSTED_MAX {
        let (datacenter, count, count_max) = (name.clone(), roots.len(), ROOTS_TRUSTED_MAX);
        problems.push(NotTrusted::TooManyRoots { datacenter, count, count_max });
    }
    let mut usable = Vec::new();
    for root in roots.iter().take(ROOTS_TRUSTED_MAX) {
        match root_anchor(root, cluster) {
            Ok(anchor) => usable.push(anchor),
            Err(source) => problems.push(NotTrusted::Root { datacenter: name.clone(), source }),
        }
    }
    usable
}

/// The root as an anchor, if it is a root of that cluster's server CA.
fn root_anchor(root: &Der, cluster: &Uuid) -> Result<TrustAnchor<'static>, BadRoot> {
    let bad = |reason: String| BadRoot { digest: root.digest(), reason };
    let facts = CertificateFacts::read(root.as_bytes()).map_err(|error| bad(error.to_string()))?;
    if !facts.is_ca {
        return Err(bad("it is no CA certificate".into()));
    }
    if !is_root_of(&facts, cluster) {
        return Err(bad(format!("it is not a root of cluster {cluster}")));
    }
    anchor(root)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::testing::{ServerCa, wan_trust};

    fn is_trusted(trust: &WanTrust, server: &ServerId) -> bool {
        trust.anchors_for(server).is_ok_and(|anchors| !anchors.is_empty())
    }

    #[test]
    fn a_bad_root_is_named_and_shuts_out_neither_its_own_nor_another_datacenter() {
        let [two, three] = [ServerCa::new(2, "dc2"), ServerCa::new(3, "dc3")];
        let trust = WanTrust::new(ServerCa::new(1, "dc1").datacenter, Uuid::from_u128(1));
        let leaf = carrack_authority::x509::pem::decode_certificates(&two.server(1).chain_pem).unwrap().remove(0);
        let junk = Der::from(b"junk".to_vec());
        let mut dc2 = two.as_trusted();
        dc2.roots = vec![junk.clone(), leaf.clone(), three.root.clone(), two.root.clone()];
        let problems = trust.replace(vec![dc2, three.as_trusted()]);
        let bad: Vec<_> = problems
            .iter()
            .map(|problem| match problem {
                NotTrusted::Root { datacenter, source } => (datacenter.as_str(), source.digest),
                other => panic!("{other}"),
            })
            .collect();
        assert_eq!(bad, [("dc2", junk.digest()), ("dc2", leaf.digest()), ("dc2", three.root.digest())]);
        assert!(is_trusted(&trust, &two.id(1)) && is_trusted(&trust, &three.id(1)));
        assert_eq!(trust.anchors_for(&two.id(1)).map(|anchors| anchors.len()), Ok(1));
    }

    #[test]
    fn an_unchanged_list_disturbs_no_connection() {
        let two = ServerCa::new(2, "dc2");
        let trust = wan_trust(&ServerCa::new(1, "dc1"), &[]);
        let changes = trust.subscribe();
        assert_eq!(trust.replace(vec![two.as_trusted()]), []);
        assert_eq!(trust.replace(vec![two.as_trusted()]), []);
        assert_eq!(*changes.borrow(), 1);
    }

    #[test]
    fn what_exceeds_a_bound_is_named_and_the_rest_is_trusted() {
        let two = ServerCa::new(2, "dc2");
        let trust = wan_trust(&ServerCa::new(1, "dc1"), &[]);
        let named = |number: usize| TrustedDatacenter {
            name: Name::parse("datacenter", &format!("dc{}", number + 2)).unwrap(),
            ..two.as_trusted()
        };
        let many: Vec<_> = (0..=DATACENTERS_TRUSTED_MAX).map(named).collect();
        let (last, count_max) = (many[DATACENTERS_TRUSTED_MAX].name.clone(), DATACENTERS_TRUSTED_MAX);
        assert_eq!(trust.replace(many), [NotTrusted::TooManyDatacenters { datacenter: last, count_max }]);
        assert!(is_trusted(&trust, &two.id(1)));

        let roots = vec![two.root.clone(); ROOTS_TRUSTED_MAX + 1];
        let (count, count_max) = (roots.len(), ROOTS_TRUSTED_MAX);
        let problems = trust.replace(vec![TrustedDatacenter { roots, ..two.as_trusted() }]);
        assert_eq!(problems, [NotTrusted::TooManyRoots { datacenter: two.datacenter.clone(), count, count_max }]);
        assert_eq!(trust.anchors_for(&two.id(1)).map(|anchors| anchors.len()), Ok(ROOTS_TRUSTED_MAX));
    }

    #[test]
    fn of_two_clusters_with_one_name_the_first_is_trusted_and_the_own_name_is_nobody_elses() {
        let (own, two, twin) = (ServerCa::new(1, "dc1"), ServerCa::new(2, "dc2"), ServerCa::new(9, "dc2"));
        let trust = wan_trust(&own, &[]);
        let problems = trust.replace(vec![own.as_trusted(), two.as_trusted(), twin.as_trusted()]);
        let (datacenter, cluster) = (two.datacenter.clone(), twin.cluster);
        assert_eq!(problems, [NotTrusted::NamedTwice { datacenter, cluster }]);
        assert!(is_trusted(&trust, &two.id(1)) && !is_trusted(&trust, &twin.id(1)) && !is_trusted(&trust, &own.id(1)));
    }
}
