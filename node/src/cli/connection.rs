//! Which server a command speaks to, with which token, trusting which CA: flags, then `CARRACK_*`, then Consul's names for the same.

use std::{collections::BTreeMap, fmt, net::IpAddr, path::PathBuf};

use super::error::CliError;

/// The address without any setting.
const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8500";

/// The flags that say where a command's server is. Each has a variable, and Consul's variable behind it.
#[derive(Clone, Default, clap::Args)]
pub struct ConnectionArgs {
    /// Address of a server's HTTP API [env: CARRACK_HTTP_ADDR, CONSUL_HTTP_ADDR; default: http://127.0.0.1:8500]
    #[arg(long, global = true, value_name = "ADDRESS", help_heading = "Connection")]
    pub http_addr: Option<String>,
    /// Secret of the token to act with [env: CARRACK_TOKEN, CONSUL_HTTP_TOKEN]
    #[arg(long, global = true, value_name = "SECRET", help_heading = "Connection")]
    pub token: Option<String>,
    /// PEM file of the CAs to trust for https [env: CARRACK_CACERT, CONSUL_CACERT]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Connection")]
    pub cacert: Option<PathBuf>,
}

/// Where a command's server is.
#[derive(Clone, PartialEq, Eq)]
pub struct Connection {
    /// `http://host:port` or `https://host:port`, without a slash at the end.
    pub address: String,
    /// The token's secret.
    pub token: Option<String>,
    /// The file of the CAs to trust.
    pub cacert: Option<PathBuf>,
}

/// The secret stays out of logs and panics.
impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let token = self.token.as_ref().map(|_| "...");
        write!(f, "Connection({}, token {token:?}, cacert {:?})", self.address, self.cacert)
    }
}

impl ConnectionArgs {
    /// The connection that flags and environment give.
    pub fn resolve(&self, environment: &BTreeMap<String, String>) -> Result<Connection, CliError> {
        let variable = |ours: &str, consuls: &str| {
            let found = [ours, consuls].into_iter().find_map(|name| environment.get(name));
            found.filter(|value| !value.is_empty()).cloned()
        };
        let address = self.http_addr.clone().or_else(|| variable("CARRACK_HTTP_ADDR", "CONSUL_HTTP_ADDR"));
        let is_tls = environment.get("CONSUL_HTTP_SSL").is_some_and(|value| value == "true" || value == "1");
        let cacert = self.cacert.clone().or_else(|| variable("CARRACK_CACERT", "CONSUL_CACERT").map(PathBuf::from));
        Ok(Connection {
            address: normalised(address.as_deref().unwrap_or(DEFAULT_ADDRESS), is_tls)?,
            token: self.token.clone().or_else(|| variable("CARRACK_TOKEN", "CONSUL_HTTP_TOKEN")),
            cacert,
        })
    }
}

/// An address with its scheme and without a slash at the end. Consul's tools take `host:port` too.
pub(crate) fn normalised(text: &str, is_tls: bool) -> Result<String, CliError> {
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (scheme, rest),
        Some((scheme, _)) => {
            return Err(CliError::usage(
                format!("the address `{text}` has the scheme `{scheme}`"),
                "use http://127.0.0.1:8500 or https://host:8501",
            ));
        }
        None if is_tls => ("https", text),
        None => ("http", text),
    };
    let rest = rest.trim_end_matches('/');
    if rest.is_empty() || rest.contains(['/', '?', '#', '@', ' ']) {
        let what = format!("the address `{text}` is no host with a port");
        return Err(CliError::usage(what, "use http://127.0.0.1:8500 or https://host:8501"));
    }
    if scheme == "http" && !is_loopback(rest) {
        let what = format!("plain HTTP to `{rest}` would send the token in clear");
        return Err(CliError::usage(what, format!("use https://{rest}, port 8501, with --cacert")));
    }
    Ok(format!("{scheme}://{rest}"))
}

fn is_loopback(host_and_port: &str) -> bool {
    let host = match host_and_port.rsplit_once(':') {
        Some((host, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => host,
        _ => host_and_port,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }

    #[test]
    fn a_flag_beats_carracks_variable_and_that_beats_consuls() {
        let variables = environment(&[
            ("CARRACK_HTTP_ADDR", "https://a.example:8501"),
            ("CONSUL_HTTP_ADDR", "https://b.example:8501"),
            ("CONSUL_HTTP_TOKEN", "secret"),
            ("CONSUL_CACERT", "ca.pem"),
        ]);
        let resolved = ConnectionArgs::default().resolve(&variables).expect("it is valid");
        assert_eq!(resolved.address, "https://a.example:8501");
        assert_eq!(resolved.token.as_deref(), Some("secret"));
        assert_eq!(resolved.cacert, Some("ca.pem".into()));
        assert!(!format!("{resolved:?}").contains("secret"));
        let flags = ConnectionArgs { http_addr: Some("127.0.0.1:9500".into()), ..ConnectionArgs::default() };
        assert_eq!(flags.resolve(&variables).expect("it is valid").address, "http://127.0.0.1:9500");
        assert_eq!(
            ConnectionArgs::default().resolve(&BTreeMap::new()).expect("it is valid").address,
            "http://127.0.0.1:8500"
        );
    }

    #[test]
    fn addresses_of_consuls_forms_are_read() {
        for (text, expected) in [
            ("localhost:8500", "http://localhost:8500"),
            ("http://127.0.0.1:8500/", "http://127.0.0.1:8500"),
            ("http://[::1]:8500", "http://[::1]:8500"),
            ("https://10.0.0.1:8501", "https://10.0.0.1:8501"),
        ] {
            assert_eq!(normalised(text, false).expect("it is valid"), expected);
        }
        assert_eq!(normalised("10.0.0.1:8501", true).expect("it is valid"), "https://10.0.0.1:8501");
    }

    #[test]
    fn a_token_is_never_sent_in_clear_to_another_machine() {
        for text in ["10.0.0.1:8500", "http://server.example:8500", "http://127.0.0.1.example:8500"] {
            assert_eq!(normalised(text, false).expect_err("it is refused").exit_code(), 2, "{text}");
        }
        for text in ["unix:///run/a.sock", "", "http://", "http://127.0.0.1:8500/v1", "http://a@127.0.0.1:8500"] {
            assert!(normalised(text, false).is_err(), "{text}");
        }
    }
}
