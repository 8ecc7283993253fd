//! Files and keys.

use std::io::{Read, Write};

use carrack::keys::store::{KEY_FILE_BYTES_MAX, KeySlot, KeyStoreError};
use carrack_authority::id::KeyId;

use super::*;

#[test]
fn a_file_is_there_whole_or_not_at_all() {
    let disk = disk(1);
    let files = disk.files("root");
    assert_eq!(files.read("a").unwrap(), None);
    assert_eq!(files.open("a").err().unwrap().kind(), ErrorKind::NotFound);
    files.replace("a", b"one").unwrap();
    let mut file = files.create("a").unwrap();
    file.write_all(b"two").unwrap();
    assert_eq!(files.read("a").unwrap().unwrap(), b"one");
    drop(file);
    assert_eq!(files.list().unwrap(), ["a"]);
    let mut reader = files.open("a").unwrap();
    files.replace("a", b"three").unwrap();
    let mut old = String::new();
    reader.read_to_string(&mut old).unwrap();
    assert_eq!(old, "one", "an open file stays as it was opened");
    assert_eq!(files.read("a").unwrap().unwrap(), b"three");
    assert_eq!(disk.files("snapshots").list().unwrap(), [""; 0]);
    files.remove("a").unwrap();
    files.remove("a").unwrap();
    assert_eq!(files.list().unwrap(), [""; 0]);
}

#[test]
fn a_replaced_file_survives_each_crash_and_a_deletion_not_every_one() {
    let mut returned = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        let files = disk.files("root");
        files.replace("a", b"one").unwrap();
        files.replace("a", b"two").unwrap();
        files.replace("b", b"three").unwrap();
        files.remove("b").unwrap();
        let unfinished = files.create("c").unwrap();
        disk.crash();
        drop(unfinished);
        let files = disk.files("root");
        assert_eq!(files.read("a").unwrap().unwrap(), b"two");
        returned += usize::from(files.read("b").unwrap().is_some());
        assert_eq!(files.read("c").unwrap(), None);
        files.remove("b").unwrap();
        files.replace("a", b"four").unwrap();
        disk.crash();
        assert_eq!(disk.files("root").list().unwrap(), ["a"], "a replacement makes the deletions before it durable");
    }
    assert!((10..40).contains(&returned), "{returned}");
}

#[test]
fn a_key_is_written_read_moved_and_emptied_and_outlives_its_process() {
    let disk = disk(1);
    let (store, issuer) = (disk.keys(), KeySlot::Issuer(KeyId([7; 20])));
    assert_eq!(store.read(KeySlot::IssuerPending).unwrap(), None);
    store.write(KeySlot::IssuerPending, b"one").unwrap();
    store.write(KeySlot::IssuerPending, b"two").unwrap();
    store.rename(KeySlot::IssuerPending, issuer).unwrap();
    disk.crash();
    let store = disk.keys();
    assert_eq!(store.read(issuer).unwrap().unwrap().as_slice(), b"two");
    assert_eq!(store.read(KeySlot::IssuerPending).unwrap(), None);
    store.write(KeySlot::Sealing, b"three").unwrap();
    assert_eq!(store.list().unwrap(), [issuer, KeySlot::Sealing]);
    store.delete(issuer).unwrap();
    store.delete(issuer).unwrap();
    assert_eq!(store.list().unwrap(), [KeySlot::Sealing]);
    let missing = store.rename(KeySlot::ServerPending, KeySlot::Server).unwrap_err();
    assert_eq!(missing.to_string(), "there is no server.pending.key in the key store");
    store.write(KeySlot::Server, &vec![b'x'; KEY_FILE_BYTES_MAX + 1]).unwrap();
    assert!(matches!(store.read(KeySlot::Server), Err(KeyStoreError::TooLarge { .. })));
}

#[test]
fn a_part_is_filled_until_it_is_wiped() {
    let disk = disk(1);
    let parts = ["log", "keys", "snapshots", "root"];
    let filled = |disk: &Disk| parts.map(|part| disk.is_filled(part));
    assert_eq!(filled(&disk), [false; 4]);
    let mut engine = opened(&disk);
    engine.append(&entries(1..=1)).unwrap();
    sync(&mut engine);
    disk.keys().write(KeySlot::Server, b"x").unwrap();
    disk.files("snapshots").replace("high-water", b"x").unwrap();
    disk.files("root").replace("identity.toml", b"x").unwrap();
    assert_eq!(filled(&disk), [true; 4]);
    let image = disk.copy();
    disk.wipe_part("log");
    disk.wipe_part("root");
    assert_eq!(filled(&disk), [false, true, true, false]);
    disk.wipe();
    assert_eq!(filled(&disk), [false; 4]);
    disk.restore(&image);
    disk.crash();
    assert_eq!(filled(&disk), [true; 4]);
    assert_eq!(opened(&disk).recover(None).unwrap(), entries(1..=1));
}
