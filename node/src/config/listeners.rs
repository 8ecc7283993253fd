//! Where a server listens and what it tells others: the rules of each address and those between them.

use std::net::{IpAddr, SocketAddr};

use super::{Advertise, HostPort, Listen, host_name, read::Reader};

/// The port of each listener that has no setting of its own.
const RAFT_PORT: u16 = 8300;
const GRPC_PORT: u16 = 8503;
const WAN_PORT: u16 = 8302;
const HTTPS_PORT: u16 = 8501;

/// What was read of each listener: `None` is a problem that was told, `Some(None)` a listener that is off.
pub(super) struct Listeners {
    raft: Option<SocketAddr>,
    grpc: Option<SocketAddr>,
    wan: Option<Option<SocketAddr>>,
    http: Option<Option<SocketAddr>>,
    https: Option<Option<SocketAddr>>,
    metrics: Option<Option<SocketAddr>>,
}

impl Listeners {
    pub(super) fn read(reader: &mut Reader) -> Self {
        let address = reader.read("listen.address", "write an IP address such as 0.0.0.0", str::parse::<IpAddr>);
        let at = |port| address.map(|address| SocketAddr::new(address, port));
        let listeners = Self {
            raft: needed(reader, "listen.raft", at(RAFT_PORT)),
            grpc: needed(reader, "listen.grpc", at(GRPC_PORT)),
            wan: listener(reader, "listen.wan", at(WAN_PORT)),
            http: listener(reader, "listen.http", None),
            https: listener(reader, "listen.https", at(HTTPS_PORT)),
            metrics: listener(reader, "listen.metrics", None),
        };
        listeners.refuse_http_beyond_loopback(reader);
        listeners.refuse_shared_ports(reader);
        listeners
    }

    pub(super) fn complete(self) -> Option<Listen> {
        let Self { raft, grpc, wan, http, https, metrics } = self;
        Some(Listen { raft: raft?, grpc: grpc?, wan: wan?, http: http?, https: https?, metrics: metrics? })
    }

    fn refuse_http_beyond_loopback(&self, reader: &mut Reader) {
        let Some(http) = self.http.flatten().filter(|http| !http.ip().is_loopback()) else { return };
        let remedy = format!("use 127.0.0.1:{}, and listen.https for other machines", http.port());
        reader.refuse("listen.http", "plain HTTP carries tokens and is served on loopback only", &remedy);
    }

    fn refuse_shared_ports(&self, reader: &mut Reader) {
        let all = [
            ("listen.raft", self.raft),
            ("listen.grpc", self.grpc),
            ("listen.wan", self.wan.flatten()),
            ("listen.http", self.http.flatten()),
            ("listen.https", self.https.flatten()),
            ("listen.metrics", self.metrics.flatten()),
        ];
        let on: Vec<_> = all.into_iter().filter_map(|(name, address)| Some((name, address?))).collect();
        for (position, (name, address)) in on.iter().enumerate() {
            if let Some((other, at)) = on[..position].iter().find(|(_, other)| clash(*other, *address)) {
                let why = format!("{address} is taken by {other} ({at})");
                reader.refuse(name, &why, "give each listener its own port");
            }
        }
    }

    /// The addresses for others; one that nobody can connect to is a problem.
    pub(super) fn advertise(&self, reader: &mut Reader) -> Option<Advertise> {
        let host = reader.read("advertise.address", "write a host name or IP address without a port", host_name);
        let host = host.filter(|host| !refuse_unspecified(reader, "advertise.address", host));
        let raft = advertised(reader, "advertise.raft", host.as_deref(), self.raft);
        let grpc = advertised(reader, "advertise.grpc", host.as_deref(), self.grpc);
        let wan = self.advertised_wan(reader, host.as_deref());
        if [&raft, &grpc, &wan].into_iter().flatten().any(is_unspecified) {
            // Where the host was given and refused, that has been told.
            if reader.text("advertise.address").is_none() {
                let why = "this server listens on every address of its machine and cannot know which one others reach";
                let remedy = "set it to this machine's address, or set listen.address to a single one";
                reader.refuse("advertise.address", why, remedy);
            }
            return None;
        }
        Some(Advertise { raft: raft?, grpc: grpc?, wan })
    }

    /// `None` if the listener is off, or a problem was told.
    fn advertised_wan(&self, reader: &mut Reader, host: Option<&str>) -> Option<HostPort> {
        const NAME: &str = "advertise.wan";
        if self.wan == Some(None) && reader.text(NAME).is_some() {
            let why = "listen.wan is off, so no server of another datacenter can be answered there";
            reader.refuse(NAME, why, "leave it out, or give listen.wan an address and a port");
            return None;
        }
        advertised(reader, NAME, host, self.wan.flatten())
    }
}

fn clash(left: SocketAddr, right: SocketAddr) -> bool {
    let is_any = left.ip().is_unspecified() || right.ip().is_unspecified();
    left.port() == right.port() && (left.ip() == right.ip() || is_any)
}

/// A listener's address: `Some(None)` is off, `None` a problem.
fn listener(reader: &mut Reader, name: &'static str, default: Option<SocketAddr>) -> Option<Option<SocketAddr>> {
    if reader.text(name).is_none() {
        return default.map(Some);
    }
    reader.read(name, "write an IP address and a port, such as 127.0.0.1:8500", |text| match text {
        "off" => Ok(None),
        text => match text.parse::<SocketAddr>() {
            Ok(address) if address.port() == 0 => Err("port 0 would be another one at each start".to_owned()),
            Ok(address) => Ok(Some(address)),
            Err(_) => Err("it is no IP address with a port".into()),
        },
    })
}

/// The address of a listener that no server can do without.
fn needed(reader: &mut Reader, name: &'static str, default: Option<SocketAddr>) -> Option<SocketAddr> {
    let address = listener(reader, name, default);
    if address == Some(None) {
        reader.refuse(name, "a server cannot do without this listener", "give it an address and a port");
    }
    address.flatten()
}

/// The address for others: the setting, or the host with the listener's port, or the listener's own address.
fn advertised(
    reader: &mut Reader,
    name: &'static str,
    host: Option<&str>,
    listener: Option<SocketAddr>,
) -> Option<HostPort> {
    if reader.text(name).is_some() {
        let given = reader.read(name, "write a host and a port, such as 10.0.0.1:8300", str::parse::<HostPort>)?;
        return Some(given).filter(|given| !refuse_unspecified(reader, name, &given.host));
    }
    let listener = listener?;
    let host = host.map_or_else(|| listener.ip().to_string(), str::to_owned);
    Some(HostPort { host, port: listener.port() })
}

fn refuse_unspecified(reader: &mut Reader, name: &'static str, host: &str) -> bool {
    let is_refused = is_unspecified(&HostPort { host: host.into(), port: 0 });
    if is_refused {
        reader.refuse(name, "nobody can connect to this address", "write this machine's own address");
    }
    is_refused
}

fn is_unspecified(address: &HostPort) -> bool {
    address.host.parse::<IpAddr>().is_ok_and(|address| address.is_unspecified())
}
