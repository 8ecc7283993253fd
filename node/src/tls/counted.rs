//! Counts the connections of each client address, so that one client cannot take them all.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard},
};

use prometheus_client::metrics::gauge::Gauge;

/// The open connections of one port.
#[derive(Debug)]
pub(super) struct Connections {
    counts: Mutex<Counts>,
    per_address_max: usize,
    total_max: usize,
    gauge: Gauge,
}

#[derive(Debug, Default)]
struct Counts {
    total: usize,
    per_address: BTreeMap<IpAddr, usize>,
}

/// Which bound a connection would exceed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TooMany {
    /// Of this client address.
    OfAddress,
    /// Of all clients together.
    InTotal,
}

impl TooMany {
    /// The stable code, for metrics.
    pub(super) const fn code(self) -> &'static str {
        match self {
            Self::OfAddress => "too_many_of_address",
            Self::InTotal => "too_many",
        }
    }
}

impl Connections {
    /// No connections yet; `gauge` shows how many there are.
    pub(super) fn new(per_address_max: usize, total_max: usize, gauge: Gauge) -> Arc<Self> {
        Arc::new(Self { counts: Mutex::default(), per_address_max, total_max, gauge })
    }

    /// Counts one more, until the answer is dropped.
    pub(super) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Admitted, TooMany> {
        let client = client_of(address);
        let mut counts = self.lock();
        if counts.total >= self.total_max {
            return Err(TooMany::InTotal);
        }
        let of_address = counts.per_address.entry(client).or_default();
        if *of_address >= self.per_address_max {
            return Err(TooMany::OfAddress);
        }
        *of_address += 1;
        counts.total += 1;
        self.gauge.inc();
        Ok(Admitted { connections: self.clone(), client })
    }

    fn release(&self, client: IpAddr) {
        let mut counts = self.lock();
        counts.total -= 1;
        self.gauge.dec();
        if let Some(of_address) = counts.per_address.get_mut(&client) {
            *of_address -= 1;
            if *of_address == 0 {
                counts.per_address.remove(&client);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().expect("no code panics while it holds this lock")
    }
}

/// A connection that is counted.
#[derive(Debug)]
pub(super) struct Admitted {
    connections: Arc<Connections>,
    client: IpAddr,
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.connections.release(self.client);
    }
}

/// What counts as one client: an IPv4 address, or an IPv6 network of 64 bits, which is what one host is given.
fn client_of(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn one_client_cannot_take_every_connection() {
        let gauge = Gauge::default();
        let connections = Connections::new(2, 3, gauge.clone());
        let first = connections.admit(address("192.0.2.1")).unwrap();
        let _second = connections.admit(address("::ffff:192.0.2.1")).unwrap();
        assert_eq!(connections.admit(address("192.0.2.1")).unwrap_err(), TooMany::OfAddress);
        let _other = connections.admit(address("192.0.2.2")).unwrap();
        assert_eq!(connections.admit(address("192.0.2.3")).unwrap_err(), TooMany::InTotal);
        assert_eq!(gauge.get(), 3);
        drop(first);
        assert_eq!(gauge.get(), 2);
        connections.admit(address("192.0.2.1")).expect("a place is free again");
        assert_eq!(connections.lock().per_address.len(), 2, "a client without connections is forgotten");
    }

    #[test]
    fn an_ipv6_network_of_one_host_is_one_client() {
        let connections = Connections::new(1, 10, Gauge::default());
        let _first = connections.admit(address("2001:db8::1")).unwrap();
        assert_eq!(connections.admit(address("2001:db8::ffff:1")).unwrap_err(), TooMany::OfAddress);
        connections.admit(address("2001:db8:0:1::1")).expect("another network");
    }
}
