//! What a crash may take, over many seeds.

use std::collections::BTreeMap;

use carrack_raft::engine::Slot;
use rand::RngExt;

use super::*;

/// Crashes of one disk after the other.
const SEEDS: u64 = 300;

/// What a disk must hold after a crash: the state at the last sync, with a prefix of the changes since.
#[derive(Default)]
struct Model {
    synced: Log,
    /// After each change since.
    since: Vec<Log>,
}

type Log = (Option<u64>, BTreeMap<u64, Vec<u8>>);

impl Model {
    fn now(&self) -> Log {
        self.since.last().unwrap_or(&self.synced).clone()
    }

    fn allows(&self, found: &Log) -> bool {
        found == &self.synced || self.since.contains(found)
    }
}

fn purged(engine: &dyn Engine) -> Option<u64> {
    engine.get(Slot::Purged).unwrap().map(|record| u64::from_le_bytes(record.try_into().unwrap()))
}

fn recovered(engine: &mut Box<dyn Engine>) -> Log {
    let purged = purged(engine.as_ref());
    (purged, engine.recover(purged).unwrap().into_iter().collect())
}

/// One change as a log store makes it, and each state that a crash inside it may leave.
fn change(engine: &mut Box<dyn Engine>, model: &mut Model, dice: &mut crate::random::Stream) {
    let (purged, log) = model.now();
    let last = log.keys().next_back().copied().or(purged).unwrap_or(0);
    match dice.random_range(0..8u32) {
        0 if last > purged.unwrap_or(0) + 1 => {
            let keep = dice.random_range(purged.unwrap_or(0) + 1..last);
            engine.truncate_after(Some(keep)).unwrap();
            model.since.extend(
                (keep..last).rev().map(|to| (purged, log.clone().into_iter().filter(|(i, _)| *i <= to).collect())),
            );
        }
        1 if last > purged.unwrap_or(0) + 1 => {
            let to = dice.random_range(purged.unwrap_or(0) + 1..last);
            engine.purge(to, &to.to_le_bytes()).unwrap();
            model.since.push((Some(to), log.into_iter().filter(|(index, _)| *index > to).collect()));
        }
        2 => {
            sync(engine);
            model.synced = model.now();
            model.since.clear();
        }
        _ => {
            let count = dice.random_range(1..=5);
            let new: Vec<Indexed> =
                (last + 1..=last + count).map(|i| (i, dice.random::<[u8; 16]>().to_vec())).collect();
            engine.append(&new).unwrap();
            for (index, bytes) in new {
                let (purged, mut log) = model.now();
                log.insert(index, bytes);
                model.since.push((purged, log));
            }
        }
    }
}

#[test]
fn a_crash_loses_only_what_was_not_synced_and_leaves_no_hole() {
    let (mut torn, mut nothing, mut everything) = (0, 0, 0);
    for seed in 0..SEEDS {
        let (disk, mut dice) = (disk(seed), Seed(seed).stream("test"));
        let mut model = Model::default();
        for _ in 0..10 {
            let mut engine = opened(&disk);
            for _ in 0..dice.random_range(0..12u32) {
                change(&mut engine, &mut model, &mut dice);
            }
            disk.crash();
            torn += disk.view().durable.torn.len();
            let mut engine = opened(&disk);
            let found = recovered(&mut engine);
            assert!(model.allows(&found), "seed {seed}: {found:?} is none of {:?} and {:?}", model.synced, model.since);
            if !model.since.is_empty() {
                nothing += u32::from(found == model.synced);
                everything += u32::from(found == model.now());
            }
            // What recovery deletes is deleted again after the next crash.
            model = Model { synced: found, since: Vec::new() };
        }
    }
    assert!(torn > 100 && nothing > 100 && everything > 100, "{torn} torn, {nothing} lost all, {everything} lost none");
}

#[test]
fn a_killed_process_leaves_to_the_next_what_the_power_can_still_take() {
    let mut later_lost = 0;
    for seed in 0..SEEDS {
        let disk = disk(seed);
        let mut engine = opened(&disk);
        engine.append(&entries(1..=5)).unwrap();
        sync(&mut engine);
        engine.append(&entries(6..=9)).unwrap();
        disk.kill();
        let after_kill = opened(&disk).recover(None).unwrap();
        assert!(after_kill.len() >= 5 && entries(1..=9).starts_with(&after_kill));
        disk.crash();
        let after_crash = opened(&disk).recover(None).unwrap();
        assert!(after_crash.len() >= 5 && after_kill.starts_with(&after_crash));
        later_lost += usize::from(after_crash.len() < after_kill.len());
    }
    assert!(later_lost > 20, "{later_lost}");
}

#[test]
fn handles_of_a_dead_process_answer_errors_and_change_nothing() {
    for end in [Disk::kill, Disk::crash, Disk::wipe] {
        let disk = disk(1);
        let (mut engine, opener) = (opened(&disk), disk.engine());
        let (files, keys) = (disk.files("root"), disk.keys());
        engine.append(&entries(1..=3)).unwrap();
        sync(&mut engine);
        let mut unfinished = files.create("b").unwrap();
        end(&disk);
        let before = disk.view();
        assert!(engine.append(&entries(4..=4)).is_err() && engine.recover(None).is_err());
        assert!(engine.put(Slot::Identity, b"x").is_err() && engine.get(Slot::Identity).is_err());
        assert!(engine.truncate_after(None).is_err() && engine.purge(1, b"1").is_err());
        assert!(engine.sync().now_or_never().unwrap().is_err() && engine.size_on_disk().is_err());
        assert!(opener().is_err());
        assert!(files.replace("a", b"x").is_err() && files.list().is_err() && files.remove("a").is_err());
        assert!(std::io::Write::write(&mut unfinished, b"x").is_err() && unfinished.commit().is_err());
        assert!(keys.write(carrack::keys::store::KeySlot::Server, b"x").is_err() && keys.list().is_err());
        assert!(disk.view() == before);
        let next = opened(&disk);
        drop(engine);
        assert!(disk.engine()().is_err(), "the end of a dead handle does not close the log of the next process");
        drop(next);
    }
}

#[tokio::test(start_paused = true)]
async fn a_crash_within_a_sync_may_keep_or_lose_what_it_was_for() {
    let (mut kept, mut lost) = (0, 0);
    for seed in 0..50 {
        let disk = disk(seed);
        let time = std::time::Duration::from_millis(20);
        disk.set_faults(DiskFaults { sync_time_min: time, sync_time_max: 2 * time, ..DiskFaults::default() });
        let mut engine = opened(&disk);
        engine.append(&entries(1..=1)).unwrap();
        assert!(tokio::time::timeout(time / 2, engine.sync()).await.is_err());
        disk.crash();
        match opened(&disk).recover(None).unwrap().len() {
            0 => lost += 1,
            _ => kept += 1,
        }
    }
    assert!(kept > 5 && lost > 5, "{kept} {lost}");
}

#[test]
fn the_same_seed_loses_the_same() {
    let run = |seed| {
        let disk = disk(seed);
        for round in 0..20 {
            let mut engine = opened(&disk);
            let last = engine.recover(None).unwrap().last().map_or(0, |(index, _)| *index);
            engine.append(&entries(last + 1..=last + 7)).unwrap();
            if round % 3 == 0 {
                sync(&mut engine);
            }
            disk.crash();
        }
        disk.journal()
    };
    assert_eq!(run(7), run(7));
    assert_ne!(run(7), run(8));
}
