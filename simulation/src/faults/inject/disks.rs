//! Faults of disks: what fails while a disk is in use, and what a killed process finds of its own.

use std::{collections::BTreeSet, time::Duration};

use super::{Cure, Injector, Sim};
use crate::{
    disk::{DiskFault, DiskFaults, Rate},
    faults::{Damage, DiskTrouble, Target},
    world::server::{Phase, Server},
};

impl Injector {
    pub(super) fn trouble(
        &self,
        datacenter: usize,
        target: Target,
        trouble: DiskTrouble,
    ) -> Option<(String, Option<Cure>)> {
        let host = self.host(datacenter, target)?;
        let disk = &self.shared.servers[&host].disk;
        match trouble {
            DiskTrouble::Sync => drop(disk.once(DiskFault::SyncError)),
            DiskTrouble::Write => drop(disk.once(DiskFault::WriteError)),
            DiskTrouble::Read => drop(disk.once(DiskFault::ReadError)),
            DiskTrouble::File => drop(disk.once(DiskFault::FileWriteError)),
            DiskTrouble::Full => disk.set_faults(DiskFaults { capacity_bytes: Some(0), ..healthy() }),
        }
        Some((format!("disk of {host}: {trouble:?} fails"), Some(Cure::CalmDisk(host))))
    }

    /// Damage is for one server at a time, while every other one is sound: more would be a loss of data that nothing could survive.
    pub(super) fn damage(
        &mut self,
        sim: &mut Sim,
        datacenter: usize,
        target: Target,
        damage: Damage,
    ) -> Option<(String, Option<Cure>)> {
        let host = self.host(datacenter, target)?;
        let members = self.members(datacenter);
        let is_sound = |host: &String| {
            let server = &self.shared.servers[host];
            server.has_identity() && !server.is_damaged() && !matches!(server.phase(), Phase::Refused(_))
        };
        let nodes: Option<BTreeSet<_>> = members.iter().map(|member| self.shared.servers[member].node()).collect();
        let is_settled = nodes.is_some() && self.shared.settled_voters(datacenter) == nodes;
        if members.len() < 3 || !members.iter().all(is_sound) || self.shared.open_jobs() > 0 || !is_settled {
            return None;
        }
        let server = self.shared.servers[&host].clone();
        self.kill(sim, &host);
        let is_done = inflict_damage(&server, damage);
        if is_done {
            server.set_damaged(true);
        }
        Some((
            format!("disk of {host}: {damage:?}{}", if is_done { "" } else { " (nothing to damage)" }),
            Some(Cure::Start(vec![host])),
        ))
    }
}

/// A disk without faults: it takes its time to sync.
pub(in crate::faults) fn healthy() -> DiskFaults {
    DiskFaults {
        sync_time_min: Duration::from_micros(200),
        sync_time_max: Duration::from_millis(4),
        sync_error: Rate::NEVER,
        ..DiskFaults::default()
    }
}

fn inflict_damage(server: &Server, damage: Damage) -> bool {
    let disk = &server.disk;
    match damage {
        Damage::FlippedBit => disk.once(DiskFault::FlipBit),
        Damage::MisdirectedWrite => disk.once(DiskFault::MisdirectedWrite),
        Damage::LostWrite => disk.once(DiskFault::LostWrite),
        Damage::CutTail(entries) => {
            // The high-water file is at most a second old: an end that was lost since then is not noticed, and not promised to be.
            let is_cut = disk.once(DiskFault::CutTail(entries));
            if !server.log_is_behind_high_water() {
                disk.wipe();
            }
            server.set_forgetful();
            is_cut
        }
        Damage::HighWater => forget(server, DiskFault::RemoveHighWater),
        Damage::HighWaterBit => forget(server, DiskFault::FlipBitInHighWater),
        Damage::OldSnapshot => disk.once(DiskFault::RestoreOldSnapshotFile),
        Damage::SnapshotBit => disk.once(DiskFault::FlipBitInSnapshot),
        Damage::All => {
            disk.wipe();
            true
        }
    }
}

/// Takes the server's knowledge of what it has promised.
fn forget(server: &Server, fault: DiskFault) -> bool {
    let is_done = server.disk.once(fault);
    if is_done {
        server.set_forgetful();
    }
    is_done
}
