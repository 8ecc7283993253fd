//! No private key leaves its owner's key store (NIST SP 800-57 part 1, section 6.2.2; the security page's first promise): every key
//! that a server makes is known to the registry, and is searched for in whatever is written to a disk beside the key store, in
//! every log entry and snapshot, in every answer that a client gets, and in all that servers say to each other inside of TLS.

use std::{collections::BTreeSet, sync::Arc};

use super::{
    Invariant, Scene,
    seen::{Said, Told},
    written::{Written, written},
};
use crate::{crypto::registry::KeyRegistry, disk::DiskEvent, world::shared::Shared};

/// The invariant's name.
const NAME: &str = "keys_stay_home";

/// See the module.
pub(super) struct KeysStayHome {
    keys: KeyRegistry,
    /// The checksums and lengths of what was searched: servers write the same entries.
    searched: BTreeSet<(u32, usize)>,
}

impl KeysStayHome {
    /// Searches for the keys of a registry.
    pub(super) fn new(keys: KeyRegistry) -> Self {
        Self { keys, searched: BTreeSet::new() }
    }

    fn search(&mut self, shared: &Shared, what: &str, bytes: &[u8]) {
        if !self.searched.insert((crc32c::crc32c(bytes), bytes.len())) {
            return;
        }
        for finding in self.keys.search(bytes) {
            shared.violate(NAME, format!("{what} has {finding}"));
        }
    }
}

impl Invariant for KeysStayHome {
    fn disk(&mut self, scene: &Scene<'_>, host: &str, event: &DiskEvent) {
        if let Some(Written { what, bytes }) = written(host, event) {
            let bytes: Arc<[u8]> = bytes;
            self.search(scene.shared, &what, &bytes);
        }
    }

    fn told(&mut self, scene: &Scene<'_>, told: &Told) {
        if let Told::Answered { what, body } = told {
            self.search(scene.shared, what, body);
        }
    }

    fn said(&mut self, scene: &Scene<'_>, said: &Said) {
        for finding in self.keys.search(&said.bytes) {
            let text = format!("what {} says on the port {} has {finding}", said.host, said.port);
            scene.shared.violate(NAME, text);
        }
    }

    fn finished(&mut self, scene: &Scene<'_>) {
        // Keys that were made after something was written: everything that still lies on a disk is searched again.
        self.searched.clear();
        let servers = scene.shared.servers.values().map(|server| (&server.host, &server.disk));
        let agents = scene.shared.agents.values().map(|agent| (&agent.host, &agent.disk));
        for (host, disk) in servers.chain(agents) {
            let view = disk.view();
            let files = view.written.files.values().flat_map(|files| files.values());
            let all = view.written.log.values().chain(view.written.torn.values()).chain(view.written.slots.values());
            for bytes in all.chain(files) {
                self.search(scene.shared, &format!("the disk of {host}"), bytes);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use carrack::telemetry::labels::Port;

    use super::*;
    use crate::{
        crypto::registry::{Home, Secret},
        invariants::testing::Trial,
    };

    const KEY: &[u8] = b"the private key of server number 1";

    fn invariant() -> KeysStayHome {
        let keys = KeyRegistry::default();
        keys.note(&Home::Host("a".into()), "a key", [Secret::new("scalar", KEY)]);
        KeysStayHome::new(keys)
    }

    fn file(bytes: &[u8]) -> DiskEvent {
        DiskEvent::FileReplaced {
            area: "snapshots".into(),
            name: "snapshot-1".into(),
            bytes: bytes.into(),
            is_told: true,
        }
    }

    #[test]
    fn files_and_answers_without_keys_are_good() {
        let (mut trial, mut invariant) = (Trial::new(), invariant());
        trial.disk(&mut invariant, "a", &file(b"no key is in here, as far as anybody can see"));
        trial.expect_good();
    }

    #[test]
    fn a_key_in_a_file_or_in_an_answer_is_found() {
        let (mut trial, mut one) = (Trial::new(), invariant());
        trial.disk(&mut one, "a", &file(&[b"before ", KEY, b" behind"].concat()));
        trial.expect_broken(NAME);
        let (trial, mut other) = (Trial::new(), invariant());
        let told = Told::Answered { what: "an answer".into(), body: Bytes::from(KEY) };
        other.told(&trial.scene(), &told);
        trial.expect_broken(NAME);
        let (trial, mut third) = (Trial::new(), invariant());
        let said = |bytes: &[u8]| Said { host: "a".into(), port: Port::Wan, bytes: Bytes::copy_from_slice(bytes) };
        third.said(&trial.scene(), &said(b"what is no key"));
        trial.expect_good();
        third.said(&trial.scene(), &said(KEY));
        trial.expect_broken(NAME);
    }
}
