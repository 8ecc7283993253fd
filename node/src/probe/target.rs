//! A workload to probe with, as an operator names it: `SERVICE@AGENT_URL`.

use std::fmt;

use carrack_authority::spiffe::Name;

use crate::cli::{connection::normalised, error::CliError};

/// The most workloads: every one connects to every other, and each pair has its turn within two seconds.
pub const WORKLOADS_MAX: usize = 16;
/// How one is written.
const FORM: &str = "write SERVICE@AGENT_URL, for example web@http://127.0.0.1:8500";

/// A service, and the agent that gives its leaf.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    service: Name,
    agent: String,
}

impl Target {
    /// A service and the address of its agent's HTTP API.
    pub fn new(service: Name, agent: String) -> Self {
        Self { service, agent }
    }

    /// Reads one.
    pub fn parse(text: &str) -> Result<Self, CliError> {
        let (service, agent) = text
            .split_once('@')
            .ok_or_else(|| CliError::usage(format!("the workload to probe with `{text}` names no agent"), FORM))?;
        let service = Name::parse("service", service).map_err(|error| CliError::usage(error.to_string(), FORM))?;
        Ok(Self { service, agent: normalised(agent, false)? })
    }

    /// Reads several: none, or at least two, without what is empty.
    pub fn parse_all<'a>(texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Self>, CliError> {
        let texts = texts.into_iter().map(str::trim).filter(|text| !text.is_empty());
        let all: Vec<Self> = texts.map(Self::parse).collect::<Result<_, _>>()?;
        match all.len() {
            1 => Err(CliError::usage(
                format!("{} alone has nobody to connect to", all[0]),
                "give --probe a second time, or two workloads in CARRACK_PROBE with a comma between them",
            )),
            count if count > WORKLOADS_MAX => Err(CliError::usage(
                format!("{count} workloads to probe with are given, at most {WORKLOADS_MAX} are taken"),
                "leave some out: one of each datacenter shows most",
            )),
            _ => Ok(all),
        }
    }

    /// The service.
    pub fn service(&self) -> &Name {
        &self.service
    }

    /// The address of its agent's HTTP API.
    pub fn agent(&self) -> &str {
        &self.agent
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.service, self.agent)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_workload_is_a_service_and_the_address_of_its_agent() {
        for (text, shown) in [
            ("web@http://127.0.0.1:8550", "web@http://127.0.0.1:8550"),
            ("web@localhost:8550/", "web@http://localhost:8550"),
            ("api@https://10.0.0.1:8501", "api@https://10.0.0.1:8501"),
        ] {
            assert_eq!(Target::parse(text).expect("it is valid").to_string(), shown);
        }
        for (text, why) in [
            ("web", "names no agent"),
            ("@http://127.0.0.1:8550", "service"),
            ("we b@http://127.0.0.1:8550", "service"),
            ("web@", "is no host with a port"),
            ("web@http://10.0.0.1:8500", "would send the token in clear"),
            ("web@ftp://127.0.0.1", "has the scheme `ftp`"),
        ] {
            let error = Target::parse(text).expect_err("it is refused");
            assert!(error.exit_code() == 2 && error.to_string().contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn there_are_none_or_two_and_not_too_many() {
        let count = |texts: &[&str]| Target::parse_all(texts.iter().copied()).map(|all| all.len()).ok();
        assert_eq!(count(&[]), Some(0));
        assert_eq!(count(&["", " "]), Some(0));
        assert_eq!(count(&["web@localhost:1"]), None);
        assert_eq!(count(&["web@localhost:1", " api@localhost:2", ""]), Some(2));
        assert_eq!(count(&["web@localhost:1"; WORKLOADS_MAX]), Some(WORKLOADS_MAX));
        assert_eq!(count(&["web@localhost:1"; WORKLOADS_MAX + 1]), None);
    }
}
