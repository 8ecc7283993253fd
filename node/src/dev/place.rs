//! Where everything of `carrack dev` is: its directory with the files that a reader needs, and the addresses.

use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{DATACENTER_STEP, DevError, DevOptions, PORT_STEP, Progress, SERVERS, SERVERS_MAX};
use crate::{
    cli::{client::Client, connection::Connection, files},
    keys::sealing::Sealer,
    probe::Target,
};

/// The file with the address, the token, the server CA and the workloads to probe with for a second terminal.
pub(super) const ENVIRONMENT: &str = "env";
/// The file with the management token.
const TOKEN: &str = "management.token";
/// The file with the recovery key.
pub(super) const RECOVERY: &str = "recovery.key";
/// Where the first server of the first datacenter answers HTTP.
const HTTP_PORT: u16 = 8500;

/// What is run, and where it is kept.
pub(super) struct Dev {
    pub(super) directory: PathBuf,
    pub(super) options: DevOptions,
}

impl Dev {
    /// The public half of the recovery key, which is made at the first start.
    pub(super) fn recovery(&self) -> Result<String, DevError> {
        let sealer = crate::keys::sealing::AgeSealer;
        let path = self.directory.join(RECOVERY);
        if let Some(text) = self.read(RECOVERY)? {
            let key = text.lines().find(|line| !line.starts_with('#')).unwrap_or_default();
            return Ok(sealer.read_identity(key).map_err(DevError::Recovery)?.recipient().to_string());
        }
        let identity = sealer.generate().map_err(DevError::Recovery)?;
        let text = format!("# Opens the root keys of this development datacenter (age).\n{}\n", identity.expose_text());
        self.write(RECOVERY, text.as_bytes())?;
        tracing::debug!(path = %path.display(), "the recovery key");
        Ok(identity.recipient().to_string())
    }

    /// The management token: that of the last start, or a new one.
    pub(super) async fn management_token(&self, progress: &mut dyn Progress) -> Result<Zeroizing<String>, DevError> {
        if let Some(token) = self.read(TOKEN)? {
            return Ok(Zeroizing::new(token.trim().to_owned()));
        }
        progress.begin("a management token");
        let client = self.client(0, None)?;
        let made: Value = client.write("/v1/acl/bootstrap", &json!({})).await?;
        let secret = Zeroizing::new(made["SecretID"].as_str().unwrap_or_default().to_owned());
        self.write(TOKEN, format!("{}\n", *secret).as_bytes())?;
        Ok(secret)
    }

    /// Writes the file that a second terminal reads.
    pub(super) fn write_environment(&self, token: &str) -> Result<(), DevError> {
        let text = format!(
            "export CARRACK_HTTP_ADDR='{}'\nexport CARRACK_TOKEN='{token}'\nexport CARRACK_CACERT='{}'\nexport CARRACK_PROBE='{}'\n",
            self.address(0),
            self.directory.join("dc1").join(SERVERS[0]).join("server-ca.pem").display(),
            self.targets().iter().map(Target::to_string).collect::<Vec<_>>().join(",")
        );
        self.write(ENVIRONMENT, text.as_bytes())
    }

    /// Where the first server of a datacenter answers.
    pub(super) fn address(&self, position: u8) -> String {
        format!("http://127.0.0.1:{}", self.port(position))
    }

    /// Where the agent of a datacenter listens: beside the most servers that there may be.
    pub(super) fn agent_listens(&self, position: u8) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port(position) + u16::from(SERVERS_MAX) * PORT_STEP))
    }

    /// Where the agent of a datacenter answers.
    pub(super) fn agent_address(&self, position: u8) -> String {
        format!("http://{}", self.agent_listens(position))
    }

    fn port(&self, position: u8) -> u16 {
        HTTP_PORT + self.options.port_offset + u16::from(position) * DATACENTER_STEP
    }

    /// A client of the first server of a datacenter.
    pub(super) fn client(&self, position: u8, token: Option<&str>) -> Result<Client, DevError> {
        client(self.address(position), token)
    }

    /// A client of the agent of a datacenter.
    pub(super) fn agent_client(&self, position: u8, token: &str) -> Result<Client, DevError> {
        client(self.agent_address(position), Some(token))
    }

    fn read(&self, name: &str) -> Result<Option<Zeroizing<String>>, DevError> {
        let path = self.directory.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(Zeroizing::new(text))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(source) => Err(DevError::File { path, source }),
        }
    }

    /// Writes a file that only its owner may read.
    fn write(&self, name: &str, bytes: &[u8]) -> Result<(), DevError> {
        files::write_all(Path::new(&self.directory), &[(name.to_owned(), bytes)])?;
        Ok(())
    }
}

fn client(address: String, token: Option<&str>) -> Result<Client, DevError> {
    Ok(Client::new(Connection { address, token: token.map(str::to_owned), cacert: None })?)
}
