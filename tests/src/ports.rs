//! Ports on loopback that nothing else takes between the choice and the server's start, or while a server is down for a while.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU16, Ordering},
    },
};

/// Below the range that the kernel gives to outgoing connections, so that none of them sits on a stopped server's port.
const FIRST: u16 = 12_000;
/// How many ports there are to choose from.
const COUNT: u16 = 20_000;

/// An address on loopback whose port is free, and that no other call in this process gets.
///
/// # Panics
/// Panics if every port of the range is taken.
pub fn free_address() -> SocketAddr {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Test processes that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(331) % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + step) % u32::from(COUNT)).expect("it is below COUNT");
        let address = SocketAddr::from(([127, 0, 0, 1], FIRST + offset));
        if TcpListener::bind(address).is_ok() {
            return address;
        }
    }
    panic!("no port from {FIRST} to {} is free", FIRST + COUNT)
}

/// How far ports below the first one are moved so that all are free, stay below it, and no other call in this process gets any of them.
///
/// # Panics
/// Panics if there is no such offset.
pub fn free_offset(ports: &[u16]) -> u16 {
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    let mut given = GIVEN.lock().unwrap_or_else(PoisonError::into_inner);
    let room = FIRST - ports.iter().max().expect("a port is asked for");
    // Test processes that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(331) % u32::from(room);
    let offsets = (0..room).map(|step| u16::try_from((start + u32::from(step)) % u32::from(room)));
    let is_free = |port: u16| !given.contains(&port) && TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let mut offsets = offsets.map(|offset| offset.expect("it is below a port's number"));
    let found = offsets.find(|offset| ports.iter().all(|port| is_free(port + offset)));
    let found = found.expect("one offset is free");
    given.extend(ports.iter().map(|port| port + found));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_address_is_given_twice() {
        let mut addresses: Vec<SocketAddr> = (0..50).map(|_| free_address()).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!(addresses.len(), 50);
    }

    #[test]
    fn no_port_of_an_offset_is_given_twice() {
        let given = |_| {
            let offset = free_offset(&[8300, 8310]);
            [8300 + offset, 8310 + offset]
        };
        let ports: BTreeSet<u16> = (0..20).flat_map(given).collect();
        assert_eq!(ports.len(), 40);
    }
}
