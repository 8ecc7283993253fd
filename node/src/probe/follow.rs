//! One workload of the prober: it follows its leaf and its agent's bundle by blocking queries, and is made anew whenever either changes.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use carrack_authority::spiffe::TrustDomain;
use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use tokio::{task::JoinSet, time::sleep};
use zeroize::Zeroizing;

use super::Target;
use crate::{
    cli::{api::Roots, client::Client},
    keys::{aws_lc::AwsLcKeyMaker, secret::KeyMaker, server_keys::ServerCredential},
    server::task::chain_of,
    tls::workload::Workload,
};

const ROOTS: &str = "/v1/agent/connect/ca/roots";
const LEAF: &str = "/v1/agent/connect/ca/leaf";
/// How long an agent may wait for something new before it answers: as Consul's clients ask.
const WAIT: Duration = Duration::from_secs(60);
/// Before the next query after an answer: an agent whose answers never block is not asked more often.
const PAUSE: Duration = Duration::from_millis(20);
/// Before the next query after none, or after an answer that brings nothing new.
const RETRY: Duration = Duration::from_millis(500);

/// What is followed of one workload.
pub(super) struct Followed {
    target: Target,
    told: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    leaf: Option<Leaf>,
    roots: Option<Roots>,
    /// What is made of both.
    workload: Option<Arc<Workload>>,
    leaf_trouble: Option<String>,
    roots_trouble: Option<String>,
    /// Why nothing can be made of both.
    unusable: Option<String>,
}

/// An agent's answer for a leaf.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Leaf {
    #[serde(rename = "CertPEM")]
    cert_pem: String,
    #[serde(rename = "PrivateKeyPEM", deserialize_with = "wiped")]
    private_key_pem: Zeroizing<String>,
}

fn wiped<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Zeroizing<String>, D::Error> {
    String::deserialize(deserializer).map(Zeroizing::new)
}

impl Followed {
    /// Follows a workload by a client of its agent.
    pub(super) fn start(target: Target, client: Client, tasks: &mut JoinSet<()>) -> Arc<Self> {
        let leaf_path = format!("{LEAF}/{}", target.service());
        let (followed, client) = (Arc::new(Self { target, told: Mutex::default() }), Arc::new(client));
        let (of_roots, asking) = (followed.clone(), client.clone());
        tasks.spawn(async move { of_roots.follow(&asking, ROOTS, Told::take_roots).await });
        let of_leaf = followed.clone();
        tasks.spawn(async move { of_leaf.follow(&client, &leaf_path, Told::take_leaf).await });
        followed
    }

    pub(super) fn target(&self) -> &Target {
        &self.target
    }

    /// What connects, once it has a leaf and a bundle.
    pub(super) fn workload(&self) -> Option<Arc<Workload>> {
        self.told(|told| told.workload.clone())
    }

    /// Why it has nothing to connect with, or nothing new: what its agent said instead, or that it said nothing.
    pub(super) fn trouble(&self) -> Option<String> {
        let trouble = self.told(|told| {
            let troubles = [&told.leaf_trouble, &told.roots_trouble, &told.unusable];
            troubles.into_iter().flatten().next().cloned()
        });
        trouble.map(|why| format!("{}: {why}", self.target))
    }

    fn told<T>(&self, look: impl FnOnce(&mut Told) -> T) -> T {
        look(&mut self.told.lock().unwrap_or_else(PoisonError::into_inner))
    }

    async fn follow<T: DeserializeOwned>(&self, client: &Client, path: &str, take: fn(&mut Told, Result<T, String>)) {
        let mut known = None;
        loop {
            let pause = match client.read_changed(path, known.as_deref(), WAIT).await {
                Ok((answer, hash)) => {
                    let is_new = hash.is_some() && hash != known;
                    self.told(|told| take(told, Ok(answer)));
                    known = hash;
                    if is_new { PAUSE } else { RETRY }
                }
                Err(error) => {
                    // The next answer comes at once, also with what was known: the trouble is over then.
                    known = None;
                    self.told(|told| take(told, Err(chain_of(&error))));
                    RETRY
                }
            };
            sleep(pause).await;
        }
    }
}

impl Told {
    fn take_leaf(&mut self, answer: Result<Leaf, String>) {
        self.leaf_trouble = match answer {
            Ok(leaf) => {
                self.leaf = Some(leaf);
                self.unusable = self.make().err();
                None
            }
            Err(why) => Some(why),
        };
    }

    fn take_roots(&mut self, answer: Result<Roots, String>) {
        self.roots_trouble = match answer {
            Ok(roots) => {
                self.roots = Some(roots);
                self.unusable = self.make().err();
                None
            }
            Err(why) => Some(why),
        };
    }

    /// Makes the workload anew. What cannot be used leaves the former one.
    fn make(&mut self) -> Result<(), String> {
        let (Some(leaf), Some(roots)) = (&self.leaf, &self.roots) else { return Ok(()) };
        let text = |error: &dyn std::error::Error| chain_of(error);
        let trust_domain = roots.trust_domain.parse::<TrustDomain>().map_err(|error| text(&error))?;
        let key = AwsLcKeyMaker.import(&leaf.private_key_pem).map_err(|error| text(&error))?;
        let credential = ServerCredential { key, chain_pem: leaf.cert_pem.clone() };
        let bundle: String = roots.roots.iter().map(|root| format!("{}\n", root.root_cert.trim_end())).collect();
        let workload = Workload::new(credential, &bundle, trust_domain).map_err(|error| text(&error))?;
        self.workload = Some(Arc::new(workload));
        Ok(())
    }
}
