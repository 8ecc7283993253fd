//! The CA providers of a server. Each root names its own: while one provider takes the place of another, both serve until the former
//! root is pruned.

use std::{collections::BTreeMap, sync::Arc};

use carrack_authority::root::Root;

use super::{BuiltinProvider, CaProvider, ProviderError, builtin::BUILTIN};

/// The providers, by the names that roots have for them.
#[derive(Clone)]
pub struct Providers(Arc<BTreeMap<&'static str, Arc<dyn CaProvider>>>);

impl Providers {
    /// `builtin`, which every server has, and others.
    pub fn new(builtin: Arc<BuiltinProvider>, others: &[Arc<dyn CaProvider>]) -> Self {
        let others = others.iter().map(|provider| (provider.name(), provider.clone()));
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
