//! The sled adapter: sizes, ends and damage of its parts.

use super::*;

fn engine() -> (tempfile::TempDir, SledEngine) {
    let place = tempfile::tempdir().unwrap();
    let engine = SledEngine::open(place.path()).unwrap();
    (place, engine)
}

fn entry(index: u64, length: usize) -> Indexed {
    (index, (0..length).map(|byte| u8::try_from((byte as u64 + index) % 251).unwrap()).collect())
}

#[test]
fn entries_of_every_size_come_back_as_they_were() {
    let (_place, mut engine) = engine();
    let lengths = [0, 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 3 * PART_BYTES_MAX, 1 << 20];
    let entries: Vec<Indexed> = (5..).zip(lengths).map(|(index, length)| entry(index, length)).collect();
    engine.append(&entries).unwrap();
    assert_eq!(engine.recover(Some(4)).unwrap(), entries);
    let too_large = engine.log.iter().find(|pair| pair.as_ref().unwrap().1.len() > VALUE_BYTES_MAX);
    assert!(too_large.is_none());
}

#[test]
fn truncating_and_purging_leave_what_is_between() {
    let (_place, mut engine) = engine();
    let entries: Vec<Indexed> = (1..=300).map(|index| entry(index, 5000)).collect();
    engine.append(&entries).unwrap();
    engine.truncate_after(Some(250)).unwrap();
    engine.purge(100, b"to 100").unwrap();
    assert_eq!(engine.get(Slot::Purged).unwrap().unwrap(), b"to 100");
    assert_eq!(engine.recover(Some(100)).unwrap(), entries[100..250]);
    engine.truncate_after(None).unwrap();
    assert_eq!(engine.recover(Some(100)).unwrap(), []);
}

#[test]
fn an_entry_without_its_first_part_was_not_written_and_goes() {
    let (_place, mut engine) = engine();
    engine.append(&[entry(1, 10), entry(2, 20_000)]).unwrap();
    engine.log.remove(part_key(2, 0)).unwrap();
    assert_eq!(engine.recover(None).unwrap(), [entry(1, 10)]);
    assert_eq!(engine.log.len(), 1);
}

#[test]
fn a_purge_that_did_not_end_is_finished() {
    let (_place, mut engine) = engine();
    engine.append(&(1..=9).map(|index| entry(index, 9000)).collect::<Vec<_>>()).unwrap();
    engine.put(Slot::Purged, b"to 7").unwrap();
    engine.log.remove(part_key(1, 0)).unwrap();
    assert_eq!(engine.recover(Some(7)).unwrap(), [entry(8, 9000), entry(9, 9000)]);
}

#[test]
fn a_hole_is_an_error() {
    let (_place, mut engine) = engine();
    engine.append(&(1..=5).map(|index| entry(index, 9)).collect::<Vec<_>>()).unwrap();
    engine.log.remove(part_key(3, 0)).unwrap();
    assert!(matches!(engine.recover(None).unwrap_err(), EngineError::Hole { missing: 3, found: 4 }));
    assert!(matches!(engine.recover(Some(3)), Ok(entries) if entries.len() == 2));
}

#[test]
fn a_hole_after_the_purged_part_is_an_error() {
    let (_place, mut engine) = engine();
    engine.append(&[entry(7, 9)]).unwrap();
    assert!(matches!(engine.recover(Some(4)).unwrap_err(), EngineError::Hole { missing: 5, found: 7 }));
}

#[test]
fn a_missing_or_changed_or_moved_part_is_an_error() {
    let (_place, mut engine) = engine();
    engine.append(&[entry(1, 20_000), entry(2, 20_000)]).unwrap();
    let middle = engine.log.remove(part_key(1, 2)).unwrap().unwrap();
    assert!(matches!(engine.recover(None).unwrap_err(), EngineError::Damaged { .. }));
    let mut changed = middle.to_vec();
    changed[100] ^= 1;
    engine.log.insert(part_key(1, 2), changed).unwrap();
    assert!(matches!(engine.recover(None).unwrap_err(), EngineError::Damaged { .. }));
    engine.log.insert(part_key(1, 2), engine.log.get(part_key(1, 1)).unwrap().unwrap()).unwrap();
    assert!(matches!(engine.recover(None).unwrap_err(), EngineError::Damaged { .. }));
    engine.log.insert(part_key(1, 2), middle).unwrap();
    assert_eq!(engine.recover(None).unwrap().len(), 2);
}

#[test]
fn a_damaged_record_is_an_error() {
    let (_place, mut engine) = engine();
    engine.put(Slot::Identity, b"me").unwrap();
    assert_eq!(engine.get(Slot::Identity).unwrap().unwrap(), b"me");
    let value = engine.slots.get(Slot::Identity.name()).unwrap().unwrap();
    engine.slots.insert(Slot::Committed.name(), value).unwrap();
    assert!(matches!(engine.get(Slot::Committed).unwrap_err(), EngineError::Damaged { .. }));
}
