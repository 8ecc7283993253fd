//! Tests of `keys::store`.

use std::{fs, os::unix::fs::PermissionsExt};

use super::*;

fn mode(path: &std::path::Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn both(test: impl Fn(&dyn KeyStore)) {
    test(&MemoryKeyStore::default());
    let directory = tempfile::tempdir().unwrap();
    test(&FileKeyStore::open(&directory.path().join("keys")).unwrap());
}

#[test]
fn each_slot_has_a_name_that_reads_back() {
    for slot in [KeySlot::Server, KeySlot::ServerPending, KeySlot::Issuer(KeyId([0xab; 20])), KeySlot::Sealing] {
        assert_eq!(slot.to_string().parse(), Ok(slot));
    }
    assert_eq!(KeySlot::Issuer(KeyId([0xab; 20])).to_string(), format!("issuer-{}.key", "ab".repeat(20)));
    for name in ["", "server.key.new", "issuer-.key", "issuer-ab.key", &format!("issuer-{}.key", "AB".repeat(20))] {
        assert!(name.parse::<KeySlot>().is_err(), "{name}");
    }
}

#[test]
fn a_slot_is_written_read_moved_and_emptied() {
    both(|store| {
        let issuer = KeySlot::Issuer(KeyId([7; 20]));
        assert_eq!(store.read(KeySlot::IssuerPending).unwrap(), None);
        store.write(KeySlot::IssuerPending, b"one").unwrap();
        store.write(KeySlot::IssuerPending, b"two").unwrap();
        store.rename(KeySlot::IssuerPending, issuer).unwrap();
        assert_eq!(store.read(issuer).unwrap().unwrap().as_slice(), b"two");
        assert_eq!(store.read(KeySlot::IssuerPending).unwrap(), None);
        store.write(KeySlot::Sealing, b"three").unwrap();
        assert_eq!(store.list().unwrap(), [issuer, KeySlot::Sealing]);
        store.delete(issuer).unwrap();
        store.delete(issuer).unwrap();
        assert_eq!(store.list().unwrap(), [KeySlot::Sealing]);
        let missing = store.rename(KeySlot::ServerPending, KeySlot::Server).unwrap_err();
        assert_eq!(missing.to_string(), "there is no server.pending.key in the key store");
    });
}

#[test]
fn key_files_are_for_their_owner_alone() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    let store = FileKeyStore::open(&keys).unwrap();
    store.write(KeySlot::Server, b"secret").unwrap();
    assert_eq!(mode(&keys), 0o700);
    assert_eq!(mode(&keys.join("server.key")), 0o600);
    assert_eq!(fs::read_dir(&keys).unwrap().count(), 1, "nothing is left beside the key");
}

#[test]
fn a_key_file_that_others_can_read_is_refused_with_the_remedy() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    let store = FileKeyStore::open(&keys).unwrap();
    store.write(KeySlot::Server, b"secret").unwrap();
    fs::set_permissions(keys.join("server.key"), fs::Permissions::from_mode(0o640)).unwrap();
    let text = store.read(KeySlot::Server).unwrap_err().to_string();
    assert!(text.contains("server.key has mode 0640") && text.contains("chmod 600"), "{text}");
    assert!(!text.contains("secret"));

    fs::set_permissions(&keys, fs::Permissions::from_mode(0o755)).unwrap();
    let text = FileKeyStore::open(&keys).unwrap_err().to_string();
    assert!(text.contains("keys has mode 0755") && text.contains("chmod 700"), "{text}");
}

#[test]
fn what_a_crash_left_half_written_is_removed_and_the_old_key_stays() {
    let directory = tempfile::tempdir().unwrap();
    let keys = directory.path().join("keys");
    FileKeyStore::open(&keys).unwrap().write(KeySlot::Server, b"old").unwrap();
    fs::write(keys.join("server.key.new"), b"ne").unwrap();
    fs::write(keys.join("notes.new"), b"not ours").unwrap();
    let store = FileKeyStore::open(&keys).unwrap();
    assert_eq!(store.read(KeySlot::Server).unwrap().unwrap().as_slice(), b"old");
    assert!(!keys.join("server.key.new").exists());
    assert!(keys.join("notes.new").exists());
}

#[test]
fn a_file_that_is_too_large_is_refused_unread() {
    let directory = tempfile::tempdir().unwrap();
    let store = FileKeyStore::open(&directory.path().join("keys")).unwrap();
    store.write(KeySlot::Server, &vec![b'x'; KEY_FILE_BYTES_MAX + 1]).unwrap();
    assert!(matches!(store.read(KeySlot::Server), Err(KeyStoreError::TooLarge { .. })));
}
