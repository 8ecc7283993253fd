//! Tests of `data_directory`.

use carrack_authority::{
    id::{NodeId, StoreId},
    spiffe::Name,
};
use uuid::Uuid;

use super::*;
use std::{fs, os::unix::fs::PermissionsExt};

fn identity() -> NodeIdentity {
    NodeIdentity {
        cluster: Uuid::from_u128(7),
        datacenter: Name::parse("datacenter", "dc1").unwrap(),
        trust_domain: "example.org".parse().unwrap(),
        node: NodeId(3),
        name: Name::parse("server", "b").unwrap(),
        store: StoreId([9; 16]),
    }
}

fn open(path: &Path) -> Result<DataDirectory, DataDirectoryError> {
    Ok(DataDirectory::new(path, Arc::new(LocalDirectory::open(path)?)))
}

fn fill(directory: &DataDirectory) {
    for part in [directory.root().join(KEYS), directory.root().join(LOG)] {
        fs::create_dir_all(&part).unwrap();
        fs::write(part.join("something"), b"x").unwrap();
    }
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

#[test]
fn a_second_user_of_the_directory_is_told_who_has_it() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let first = open(&path).unwrap();
    let text = open(&path).unwrap_err().to_string();
    let holder = format!("in use by another process (process id {})", std::process::id());
    assert!(text.contains(&holder), "{text}");
    drop(first);
    open(&path).expect("the lock went with its holder");
}

#[test]
fn a_directory_is_empty_then_half_made_then_a_servers() {
    let root = tempfile::tempdir().unwrap();
    let directory = open(&root.path().join("data")).unwrap();
    assert_eq!(directory.contents().unwrap(), Contents::Empty);
    assert!(directory.server().unwrap_err().to_string().contains("--bootstrap"));
    fill(&directory);
    let found = vec!["keys".to_owned(), "log".to_owned()];
    assert_eq!(directory.contents().unwrap(), Contents::HalfMade { found });
    let text = directory.server().unwrap_err().to_string();
    assert!(text.contains("half made (keys, log)") && text.contains("repeat the same command"), "{text}");

    directory.write_identity(&identity()).unwrap();
    assert_eq!(directory.contents().unwrap(), Contents::Initialised(Box::new(identity())));
    assert_eq!(directory.server().unwrap(), identity());
    directory.write_identity(&identity()).expect("repeating the step is success");
    let other = NodeIdentity { node: NodeId(4), ..identity() };
    assert!(matches!(directory.write_identity(&other), Err(DataDirectoryError::AlreadyInitialised { .. })));
}

#[test]
fn a_server_whose_log_or_keys_are_gone_is_told_to_join_anew() {
    for (part, other) in [("log", "keys"), ("keys", "log")] {
        let root = tempfile::tempdir().unwrap();
        let directory = open(&root.path().join("data")).unwrap();
        fill(&directory);
        directory.write_identity(&identity()).unwrap();
        fs::remove_dir_all(directory.root().join(part)).unwrap();
        assert!(directory.root().join(other).exists());
        let text = directory.contents().unwrap_err().to_string();
        assert!(text.contains(&format!("server b (node id 3) but its {part} is gone")), "{text}");
        assert!(text.contains("new node id"), "{text}");
    }
}

#[test]
fn the_directory_and_its_identity_are_for_their_owner_alone() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("data");
    let directory = open(&path).unwrap();
    directory.write_identity(&identity()).unwrap();
    assert_eq!((mode(&path), mode(&path.join(IDENTITY)), mode(&path.join("lock"))), (0o700, 0o600, 0o600));
    drop(directory);
    fs::set_permissions(&path, fs::Permissions::from_mode(0o750)).unwrap();
    let text = open(&path).unwrap_err().to_string();
    assert!(text.contains("has mode 0750") && text.contains("chmod 700"), "{text}");
}

#[test]
fn an_identity_that_was_edited_cut_or_is_of_another_format_is_refused() {
    let text = identity().to_text().unwrap();
    assert_eq!(NodeIdentity::from_text(&text).unwrap(), identity());

    let edited = text.replace("node_id = 3", "node_id = 4");
    assert_ne!(edited, text);
    assert!(matches!(NodeIdentity::from_text(&edited), Err(IdentityError::Checksum { .. })));
    let newer = text.replace("format = 1", "format = 2");
    assert!(matches!(NodeIdentity::from_text(&newer), Err(IdentityError::Format { found: 2 })));
    for length in 0..text.len() - 1 {
        assert!(NodeIdentity::from_text(&text[..length]).is_err(), "cut at {length}");
    }
    let unknown = format!("{text}more = 1\n");
    assert!(matches!(NodeIdentity::from_text(&unknown), Err(IdentityError::Syntax(_))));
}

#[test]
fn a_damaged_identity_is_an_error_and_never_an_empty_directory() {
    let root = tempfile::tempdir().unwrap();
    let directory = open(root.path().join("data").as_path()).unwrap();
    fs::write(directory.root().join(IDENTITY), b"").unwrap();
    assert!(matches!(directory.contents(), Err(DataDirectoryError::Identity { .. })));
    fs::write(directory.root().join(IDENTITY), vec![0xff; 100_000]).unwrap();
    assert!(directory.contents().is_err());
}
