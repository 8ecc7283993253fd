//! The behaviour that the engine on sled is tested for.

use carrack_raft::engine::{EngineError, Slot};

use super::*;

#[test]
fn entries_of_every_size_come_back_as_they_were() {
    let disk = disk(1);
    let mut engine = opened(&disk);
    let entries: Vec<Indexed> =
        (5..).zip([0, 1, 4086, 4087, 1 << 20]).map(|(index, size)| entry(index, size)).collect();
    engine.append(&entries).unwrap();
    assert_eq!(engine.recover(Some(4)).unwrap(), entries);
    assert!(engine.size_on_disk().unwrap() > 1 << 20);
}

#[test]
fn truncating_and_purging_leave_what_is_between() {
    let disk = disk(1);
    let mut engine = opened(&disk);
    let all = entries(1..=300);
    engine.append(&all).unwrap();
    engine.truncate_after(Some(250)).unwrap();
    engine.purge(100, b"to 100").unwrap();
    assert_eq!(engine.get(Slot::Purged).unwrap().unwrap(), b"to 100");
    assert_eq!(engine.recover(Some(100)).unwrap(), all[100..250]);
    engine.truncate_after(None).unwrap();
    assert_eq!(engine.recover(Some(100)).unwrap(), []);
}

#[test]
fn a_purge_that_did_not_end_is_finished() {
    let disk = disk(1);
    let mut engine = opened(&disk);
    engine.append(&entries(1..=9)).unwrap();
    engine.put(Slot::Purged, b"to 7").unwrap();
    assert_eq!(engine.recover(Some(7)).unwrap(), entries(8..=9));
    sync(&mut engine);
    assert_eq!(disk.view().durable.log.len(), 2);
}

#[test]
fn a_hole_is_an_error() {
    let mut engine = opened(&disk(1));
    engine.append(&entries(1..=2)).unwrap();
    engine.append(&entries(4..=5)).unwrap();
    assert!(matches!(engine.recover(None).unwrap_err(), EngineError::Hole { missing: 3, found: 4 }));
    assert!(matches!(engine.recover(Some(3)), Ok(entries) if entries.len() == 2));
}

#[test]
fn a_hole_after_the_purged_part_is_an_error() {
    let mut engine = opened(&disk(1));
    engine.append(&[entry(7, 9)]).unwrap();
    assert!(matches!(engine.recover(Some(4)).unwrap_err(), EngineError::Hole { missing: 5, found: 7 }));
}

#[test]
fn an_entry_without_its_first_part_was_not_written_and_goes() {
    let disk = disk(1);
    let mut engine = opened(&disk);
    engine.append(&entries(1..=1)).unwrap();
    sync(&mut engine);
    let is_torn = (0..1000).any(|_| {
        engine.truncate_after(Some(1)).unwrap();
        sync(&mut engine);
        engine.append(&entries(2..=2)).unwrap();
        disk.crash();
        engine = opened(&disk);
        !disk.view().durable.torn.is_empty()
    });
    assert!(is_torn, "one crash of many tears the entry that was not synced");
    assert_eq!(engine.recover(None).unwrap(), entries(1..=1));
    sync(&mut engine);
    assert!(disk.view().durable.torn.is_empty());
}

#[test]
fn a_damaged_record_is_an_error() {
    let disk = disk(1);
    let mut engine = opened(&disk);
    engine.put(Slot::Identity, b"me").unwrap();
    assert_eq!(engine.get(Slot::Identity).unwrap().unwrap(), b"me");
    assert_eq!(engine.get(Slot::Committed).unwrap(), None);
    sync(&mut engine);
    assert!(disk.once(DiskFault::FlipBitInSlot(Slot::Identity)));
    let error = engine.get(Slot::Identity).unwrap_err();
    assert!(matches!(&error, EngineError::Damaged { place, .. } if place == "identity"), "{error}");
}

#[test]
fn one_process_has_the_log_open_at_a_time() {
    let disk = disk(1);
    let engine = opened(&disk);
    assert!(matches!(disk.engine()(), Err(EngineError::Open { .. })));
    assert!(matches!(disk.engine()(), Err(EngineError::Open { .. })), "a refused one opens nothing");
    drop(engine);
    opened(&disk);
}
