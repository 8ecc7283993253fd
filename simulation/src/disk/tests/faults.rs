//! Faults by rate and by order, what they leave, and the journal.

use carrack_raft::engine::{EngineError, Slot};

use super::*;

/// A disk with entries 11 to 40 after a purge, all durable, and its log closed.
fn filled(seed: u64) -> Disk {
    let disk = disk(seed);
    let mut engine = opened(&disk);
    engine.append(&entries(1..=40)).unwrap();
    engine.purge(10, b"to 10").unwrap();
    sync(&mut engine);
    drop(engine);
    disk
}

fn is_full(error: &EngineError) -> bool {
    matches!(error, EngineError::Io { source, .. } if source.kind() == ErrorKind::StorageFull)
}

#[test]
fn each_damage_of_the_log_is_found() {
    for seed in 0..100 {
        for fault in [DiskFault::FlipBit, DiskFault::MisdirectedWrite, DiskFault::LostWrite] {
            let disk = filled(seed);
            assert!(disk.once(fault));
            let error = opened(&disk).recover(Some(10)).unwrap_err();
            match fault {
                DiskFault::LostWrite => assert!(matches!(error, EngineError::Hole { .. }), "{fault:?}: {error}"),
                _ => assert!(matches!(&error, EngineError::Damaged { place, .. } if place.starts_with("entry "))),
            }
            disk.crash();
            assert!(opened(&disk).recover(Some(10)).is_err(), "it stays damaged");
        }
    }
}

#[test]
fn damage_needs_something_to_damage() {
    let disk = disk(1);
    for fault in [
        DiskFault::FlipBit,
        DiskFault::FlipBitInSlot(Slot::Purged),
        DiskFault::FlipBitInSnapshot,
        DiskFault::FlipBitInHighWater,
        DiskFault::MisdirectedWrite,
        DiskFault::LostWrite,
        DiskFault::RestoreOldSnapshotFile,
        DiskFault::RemoveHighWater,
    ] {
        assert!(!disk.once(fault), "{fault:?}");
    }
    assert_eq!(disk.journal(), []);
}

#[test]
fn a_cut_tail_is_gone_when_the_log_is_opened_again() {
    let disk = filled(1);
    assert!(disk.once(DiskFault::CutTail(3)));
    let mut engine = opened(&disk);
    assert_eq!(engine.recover(Some(10)).unwrap(), entries(11..=37));
    assert!(disk.once(DiskFault::CutTail(2)));
    engine.append(&entries(38..=38)).unwrap();
    sync(&mut engine);
    assert_eq!(engine.recover(Some(10)).unwrap().len(), 28, "it is in use");
    drop(engine);
    assert_eq!(opened(&disk).recover(Some(10)).unwrap(), entries(11..=36));
}

#[test]
fn files_can_be_old_damaged_or_gone() {
    let disk = disk(1);
    let files = disk.files("snapshots");
    for name in ["high-water", "snapshot-1", "snapshot-2", "snapshot-3"] {
        files.replace(name, name.as_bytes()).unwrap();
    }
    files.remove("snapshot-1").unwrap();
    assert!(disk.once(DiskFault::RestoreOldSnapshotFile));
    assert_eq!(files.list().unwrap(), ["high-water", "snapshot-1", "snapshot-2"]);
    assert!(disk.once(DiskFault::FlipBitInSnapshot) && disk.once(DiskFault::FlipBitInHighWater));
    assert_eq!(files.read("snapshot-1").unwrap().unwrap(), b"snapshot-1");
    assert_ne!(files.read("snapshot-2").unwrap().unwrap(), b"snapshot-2");
    assert_ne!(files.read("high-water").unwrap().unwrap(), b"high-water");
    assert!(disk.once(DiskFault::RemoveHighWater));
    disk.crash();
    assert_eq!(disk.files("snapshots").list().unwrap(), ["snapshot-1", "snapshot-2"]);
}

#[test]
fn after_a_failed_sync_the_engine_writes_no_more_and_a_crash_decides() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..50 {
        let disk = disk(seed);
        let mut engine = opened(&disk);
        engine.append(&entries(1..=1)).unwrap();
        disk.once(DiskFault::SyncError);
        assert!(engine.sync().now_or_never().unwrap().is_err());
        assert!(engine.sync().now_or_never().unwrap().is_err(), "it is never tried again");
        assert!(engine.append(&entries(2..=2)).is_err());
        disk.kill();
        let found = opened(&disk).recover(None).unwrap();
        disk.crash();
        assert_eq!(opened(&disk).recover(None).unwrap(), found, "what the page cache only seemed to hold is gone");
        match found.len() {
            0 => lost += 1,
            _ => kept += 1,
        }
    }
    assert!(kept > 5 && lost > 5, "{kept} {lost}");
}

#[test]
fn a_failed_write_leaves_a_prefix_and_the_engine_writes_no_more() {
    let mut lengths = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let disk = disk(seed);
        let mut engine = opened(&disk);
        disk.once(DiskFault::WriteError);
        assert!(engine.append(&entries(1..=4)).is_err());
        assert!(engine.put(Slot::Committed, b"1").is_err());
        let found = engine.recover(None).unwrap();
        assert!(entries(1..=4).starts_with(&found));
        lengths.insert(found.len());
    }
    assert_eq!(lengths.into_iter().collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn a_full_disk_takes_nothing_more_until_there_is_room() {
    let disk = disk(1);
    disk.set_faults(DiskFaults { capacity_bytes: Some(2000), ..DiskFaults::default() });
    let files = disk.files("root");
    files.replace("a", &[1; 1000]).unwrap();
    assert_eq!(files.replace("a", &[2; 1001]).unwrap_err().kind(), ErrorKind::StorageFull);
    assert_eq!(files.read("a").unwrap().unwrap(), [1; 1000]);
    let mut engine = opened(&disk);
    assert!(is_full(&engine.append(&entries(1..=5)).unwrap_err()));
    drop(engine);
    let mut engine = opened(&disk);
    assert_eq!(engine.recover(None).unwrap(), entries(1..=3));
    assert_eq!(
        disk.keys().write(carrack::keys::store::KeySlot::Server, &[1; 500]).unwrap_err().to_string(),
        "cannot write a/keys/server.key"
    );
    files.remove("a").unwrap();
    engine.append(&entries(4..=5)).unwrap();
    disk.once(DiskFault::StorageFull);
    assert!(is_full(&engine.append(&entries(6..=6)).unwrap_err()));
}

#[test]
fn a_disk_that_lies_loses_what_it_acknowledged() {
    let mut lost = 0;
    for seed in 0..50 {
        let disk = disk(seed);
        disk.set_faults(DiskFaults { lies_about_sync: true, lies_about_files: true, ..DiskFaults::default() });
        let mut engine = opened(&disk);
        engine.append(&entries(1..=3)).unwrap();
        sync(&mut engine);
        disk.files("snapshots").replace("high-water", b"3").unwrap();
        assert_eq!(disk.view().durable.log.len(), 0);
        disk.crash();
        let found = opened(&disk).recover(None).unwrap();
        assert!(entries(1..=3).starts_with(&found));
        let is_high_water_lost = disk.files("snapshots").read("high-water").unwrap().is_none();
        lost += usize::from(found.len() < 3 && is_high_water_lost);
    }
    assert!(lost > 5, "{lost}");
}

#[test]
fn reads_fail_at_their_rate_and_change_nothing() {
    let disk = filled(3);
    let half = Rate(Rate::OUT_OF / 2);
    disk.set_faults(DiskFaults { read_error: half, file_read_error: half, ..DiskFaults::default() });
    let (mut engine, files) = (opened(&disk), disk.files("root"));
    let failures = (0..200).filter(|_| engine.recover(Some(10)).is_err()).count();
    let file_failures = (0..200).filter(|_| files.read("a").is_err()).count();
    assert!((60..140).contains(&failures) && (60..140).contains(&file_failures), "{failures} {file_failures}");
    disk.set_faults(DiskFaults::default());
    assert_eq!(engine.recover(Some(10)).unwrap(), entries(11..=40));
}

#[test]
fn a_file_that_could_not_be_written_is_the_old_or_the_new_one() {
    let mut contents = std::collections::BTreeSet::new();
    for seed in 0..50 {
        let disk = disk(seed);
        let files = disk.files("root");
        files.replace("a", b"old").unwrap();
        disk.once(DiskFault::FileWriteError);
        assert!(files.replace("a", b"new").is_err());
        let seen = files.read("a").unwrap().unwrap();
        disk.crash();
        contents.insert((seen, disk.files("root").read("a").unwrap().unwrap()));
    }
    let pairs = [("new", "new"), ("new", "old"), ("old", "old")];
    assert!(contents.into_iter().eq(pairs.map(|(seen, later)| (seen.into(), later.into()))));
}

#[tokio::test(start_paused = true)]
async fn a_sync_takes_its_time_and_a_slow_spell_longer() {
    let disk = disk(1);
    let milliseconds = std::time::Duration::from_millis;
    let (min, max, slow) = (milliseconds(2), milliseconds(10), milliseconds(500));
    let faults =
        DiskFaults { sync_time_min: min, sync_time_max: max, slow_sync_time_max: slow, ..DiskFaults::default() };
    disk.set_faults(faults);
    let mut engine = opened(&disk);
    let mut times = Vec::new();
    for round in 0..40 {
        if round == 20 {
            disk.once(DiskFault::SlowSyncs(5));
        }
        let before = tokio::time::Instant::now();
        engine.sync().await.unwrap();
        times.push(before.elapsed());
    }
    let timer = milliseconds(1);
    assert!(times.iter().all(|time| *time >= min));
    assert!(times[..20].iter().chain(&times[25..]).all(|time| *time <= max + timer), "{times:?}");
    assert!(times[20..25].iter().all(|time| *time >= max && *time <= slow + timer), "{times:?}");
}

#[test]
fn the_journal_tells_what_happened_once_and_no_contents() {
    let disk = disk(1);
    let mut engine = opened(&disk);
    engine.append(&[entry(1, 4)]).unwrap();
    engine.put(Slot::Committed, b"secret").unwrap();
    sync(&mut engine);
    engine.purge(1, b"1").unwrap();
    engine.truncate_after(None).unwrap();
    disk.files("root").replace("server-ca.pem", b"secret").unwrap();
    disk.keys().write(carrack::keys::store::KeySlot::Sealing, b"secret").unwrap();
    disk.once(DiskFault::FlipBit);
    let events = disk.journal();
    assert_eq!(events[1], DiskEvent::Appended { index: 1, bytes: entry(1, 4).1.into() });
    let text = format!("{events:?}");
    assert_eq!(
        text,
        "[Opened, Appended(1, 4 bytes), Put(committed, 6 bytes), Synced, Put(purged, 1 bytes), Purged(1), \
         TruncatedAfter(None), FileReplaced(root/server-ca.pem, 6 bytes), KeyWritten(sealing.key), \
         FaultInjected(FlipBit)]"
    );
    assert_eq!(disk.journal(), []);
    assert!(disk.view().written.holds(b"secret") && !disk.view().written.holds(b"three"));
}

#[test]
fn a_journal_that_nobody_takes_forgets_its_oldest_events() {
    let disk = disk(1);
    let files = disk.files("root");
    for _ in 0..20_000 {
        files.replace("a", b"x").unwrap();
    }
    let events = disk.journal();
    assert_eq!(events[0], DiskEvent::Forgotten { events: 20_000 - 16_384 });
    assert_eq!(events.len(), 16_385);
}
