//! The closing lines of `carrack dev`: what was shown, and what to try next.

use std::io::Write;

use super::{
    CALLER, DevError, DevOptions, SERVICE,
    place::{Dev, ENVIRONMENT, RECOVERY},
    sample::Shown,
};

/// Requests that the rule in the lines to try lets through.
const PERMISSIONS: &str = r#"[{"Action":"allow","HTTP":{"PathPrefix":"/v1","Methods":["GET"]}}]"#;

impl Dev {
    /// Tells it.
    pub(super) fn close(&self, token: &str, shown: &Shown, output: &mut (dyn Write + Send)) -> Result<(), DevError> {
        let text = format!("{}\n{}\n{}", self.seen(shown), self.places(token), self.next(shown));
        let written = output.write_all(text.as_bytes()).and_then(|()| output.flush());
        written.map_err(|source| DevError::File { path: "standard output".into(), source })
    }

    fn seen(&self, shown: &Shown) -> String {
        let DevOptions { datacenters, servers, .. } = self.options;
        let Shown { handshake, decisions, explanation, .. } = shown;
        let explanation: String = explanation.lines().map(|line| format!("      {line}\n")).collect();
        let explanation = explanation.replace("      \n", "\n");
        format!(
            "\nDatacenters: {datacenters}, with {servers} servers and an agent each, in this process; every server issues.\n\n\
             {handshake}\n{decisions}\n  carrack intention explain {CALLER} {SERVICE}\n{explanation}"
        )
    }

    fn places(&self, token: &str) -> String {
        let each = |address: &dyn Fn(u8) -> String| {
            let all =
                (0..self.options.datacenters).map(|position| format!("{} (dc{})", address(position), position + 1));
            all.collect::<Vec<_>>().join(" ")
        };
        format!(
            "  HTTP API          {}\n  \
             Agents            {}\n  \
             Management token  {token}\n  \
             Data              {} (recovery key: {RECOVERY})\n  \
             Leaves            {SERVICE}/{SERVICE}.pem and {CALLER}/{CALLER}.pem there, each with its key and roots\n",
            each(&|position| self.address(position)),
            each(&|position| self.agent_address(position)),
            self.directory.display()
        )
    }

    fn next(&self, Shown { caller, .. }: &Shown) -> String {
        let (directory, leaf) = (self.directory.display(), self.directory.join(SERVICE));
        let (leaf, agent) = (leaf.display(), self.agent_address(0));
        format!(
            "In a second terminal:\n\n  \
             source {directory}/{ENVIRONMENT}\n  \
             openssl verify -CAfile {leaf}/roots.pem -untrusted {leaf}/chain.pem {leaf}/{SERVICE}.pem\n  \
             carrack status\n  \
             carrack federation show\n  \
             carrack ca rotate --watch\n  \
             carrack agent cache --http-addr {agent}\n  \
             curl -H \"X-Consul-Token: $CARRACK_TOKEN\" {agent}/v1/agent/connect/authorize \\\n    \
             -d '{{\"Target\":\"{SERVICE}\",\"ClientCertURI\":\"{caller}\"}}'\n  \
             carrack intention create {CALLER} {SERVICE} --permissions <(echo '{PERMISSIONS}')\n  \
             carrack intention explain {CALLER} {SERVICE} --path /v1/orders\n  \
             carrack intention explain {CALLER} {SERVICE} --path /admin\n\n\
             Ctrl-C stops it.\n"
        )
    }
}
