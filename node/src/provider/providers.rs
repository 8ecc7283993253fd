//! The CA providers of a server. Each root names its own: while one provider takes the place of another, both serve until the former
//! root is pruned.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use carrack_authority::{
    root::{Bridge, NewRoot, Root},
    x509::authority::SignedCertificate,
};
use futures::future::{BoxFuture, FutureExt};
use tokio::time::timeout;

use super::{BridgeToSign, BuiltinProvider, CaProvider, IssuerToSign, ProviderError, RootRequest, builtin::BUILTIN};

/// How long a provider outside of the server may take for one thing: whoever waits for it also signs what others need.
const ANSWERS_WITHIN: Duration = Duration::from_secs(15);

/// The providers, by the names that roots have for them.
#[derive(Clone)]
pub struct Providers(Arc<BTreeMap<&'static str, Arc<dyn CaProvider>>>);

impl Providers {
    /// `builtin`, which every server has, and others, which are not waited for without bound.
    pub fn new(builtin: Arc<BuiltinProvider>, others: &[Arc<dyn CaProvider>]) -> Self {
        let bounded = |provider: &Arc<dyn CaProvider>| Arc::new(Bounded(provider.clone())) as Arc<dyn CaProvider>;
        let others = others.iter().map(|provider| (provider.name(), bounded(provider)));
        Self(Arc::new(others.chain([(BUILTIN, builtin as Arc<dyn CaProvider>)]).collect()))
    }

    /// The one with this name.
    pub fn named(&self, name: &str) -> Result<&Arc<dyn CaProvider>, ProviderError> {
        self.0.get(name).ok_or_else(|| {
            let known: Vec<String> = self.0.keys().map(|name| format!("`{name}`")).collect();
            ProviderError::Unknown { provider: name.to_owned(), known: known.join(", ") }
        })
    }

    /// The one that keeps the key of a root.
    pub fn of(&self, root: &Root) -> Result<&Arc<dyn CaProvider>, ProviderError> {
        self.named(&root.made.provider)
    }
}

/// A provider that answers within [`ANSWERS_WITHIN`], or has not done it.
struct Bounded(Arc<dyn CaProvider>);

impl Bounded {
    async fn answer<T>(&self, doing: BoxFuture<'_, Result<T, ProviderError>>) -> Result<T, ProviderError> {
        let reason = || format!("it did not answer within {} s", ANSWERS_WITHIN.as_secs());
        let refused = |_| ProviderError::Refused { provider: self.0.name(), reason: reason() };
        timeout(ANSWERS_WITHIN, doing).await.map_err(refused)?
    }
}

impl CaProvider for Bounded {
    fn name(&self) -> &'static str {
        self.0.name()
    }

    fn make_root(&self, request: RootRequest) -> BoxFuture<'_, Result<NewRoot, ProviderError>> {
        self.answer(self.0.make_root(request)).boxed()
    }

    fn sign_issuer<'a>(
        &'a self,
        root: &'a Root,
        issuer: IssuerToSign,
    ) -> BoxFuture<'a, Result<SignedCertificate, ProviderError>> {
        self.answer(self.0.sign_issuer(root, issuer)).boxed()
    }

    fn can_cross_sign(&self) -> bool {
        self.0.can_cross_sign()
    }

    fn cross_sign<'a>(&'a self, root: &'a Root, bridge: BridgeToSign) -> BoxFuture<'a, Result<Bridge, ProviderError>> {
        self.answer(self.0.cross_sign(root, bridge)).boxed()
    }
}
