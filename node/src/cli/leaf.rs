//! `carrack leaf get` and `carrack sign`: leaves. The key of a leaf is made here and never leaves this machine.

use std::path::{Path, PathBuf};

use carrack_authority::{
    key::KeyKind,
    spiffe::{Name, SpiffeId, TrustDomain},
};
use clap::{Args, Subcommand};
use rustls_pki_types::{CertificateDer, pem::PemObject};
use serde_json::{Value, json};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{
    api::{About, Roots, Signed},
    client::Client,
    error::CliError,
    files,
    leaf_records::{self, LeafListArgs, LeafRevokeArgs},
    output::{Format, Output, visible},
    token::duration_text,
};
use crate::keys::{
    aws_lc::AwsLcKeyMaker,
    secret::{KeyMaker, SecretKey},
};

const SIGN: &str = "/v1/carrack/sign";
const ROOTS: &str = "/v1/connect/ca/roots";
/// Any token may ask for this: the one of a service need not read the status.
const ABOUT: &str = "/v1/agent/self";

/// Gets leaves.
#[derive(Clone, Debug, Subcommand)]
pub enum LeafCommand {
    /// Make a key, have a leaf signed for it, and write key, leaf, chain and roots
    Get(LeafGetArgs),
    /// List the unexpired leaves of the datacenter, the newest first
    List(LeafListArgs),
    /// Have a leaf refused in every datacenter until it ends
    Revoke(LeafRevokeArgs),
    /// List the revoked leaves
    Revoked,
}

/// What leaf to get, and where to.
#[derive(Clone, Debug, Args)]
pub struct LeafGetArgs {
    /// Name of the service
    #[arg(value_name = "SERVICE", value_parser = service_name)]
    pub service: Name,
    /// Directory to write to
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub out: PathBuf,
    /// Kind of key: ec-p256, ec-p384, ed25519, rsa-2048, rsa-3072, rsa-4096
    #[arg(long, value_name = "KIND", default_value = "ec-p256")]
    pub key: KeyKind,
    /// What is asked of the server.
    #[command(flatten)]
    pub request: RequestArgs,
    /// Datacenter of the identity; default: the server's
    #[arg(long, value_name = "NAME")]
    pub datacenter: Option<String>,
}

/// Has a CSR signed.
#[derive(Clone, Debug, Args)]
pub struct SignArgs {
    /// PEM file of the CSR
    #[arg(long, value_name = "FILE")]
    pub csr: PathBuf,
    /// What is asked of the server.
    #[command(flatten)]
    pub request: RequestArgs,
}

/// What is asked of the server beside the CSR.
#[derive(Clone, Debug, Args)]
pub struct RequestArgs {
    /// Which of this token's leaves it is: a newer leaf of one slot supersedes the older
    #[arg(long, value_name = "NAME")]
    pub slot: Option<String>,
    /// Life of the leaf, at most the CA's LeafCertTTL
    #[arg(long, value_name = "DURATION", value_parser = duration_text)]
    pub ttl: Option<String>,
}

fn service_name(text: &str) -> Result<Name, carrack_authority::spiffe::SpiffeError> {
    Name::parse("service", text)
}

impl LeafCommand {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Get(arguments) => arguments.run(client, output).await,
            Self::List(wanted) => leaf_records::list(wanted, client, output).await,
            Self::Revoke(arguments) => leaf_records::revoke(arguments, client, output).await,
            Self::Revoked => leaf_records::revoked(client, output).await,
        }
    }
}

impl LeafGetArgs {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        let identity = self.identity(client).await?;
        let key = AwsLcKeyMaker.make(self.key)?;
        let csr = Csr::new(&key, &identity)?;
        let answer = self.request.sign(&csr.pem, client).await?;
        let signed: Signed = client.typed(SIGN, &answer)?;
        let served = csr.check(&signed, &identity)?;
        let written = self.write(&key, &served, &signed)?;
        print(&signed, &written, output)
    }

    async fn identity(&self, client: &Client) -> Result<SpiffeId, CliError> {
        let roots: Roots = client.typed(ROOTS, &client.read(ROOTS, &[]).await?)?;
        let datacenter = match &self.datacenter {
            Some(datacenter) => datacenter.clone(),
            None => client.typed::<About>(ABOUT, &client.read(ABOUT, &[]).await?)?.config.datacenter,
        };
        let unusable = |error: carrack_authority::spiffe::SpiffeError| {
            CliError::usage(error.to_string(), "check --datacenter against `carrack status`")
        };
        let trust_domain: TrustDomain = roots.trust_domain.parse().map_err(unusable)?;
        let datacenter = Name::parse("datacenter", &datacenter).map_err(unusable)?;
        Ok(SpiffeId::service(trust_domain, datacenter, self.service.clone()))
    }

    /// Writes the roots and the chain first, then the key and the leaf: who reads in between finds the old pair whole or a new key
    /// whose leaf follows at once.
    fn write(&self, key: &SecretKey, served: &str, signed: &Signed) -> Result<Vec<PathBuf>, CliError> {
        let key = key.to_pem();
        let files: [(String, &[u8]); 4] = [
            ("roots.pem".into(), signed.roots_pem.as_bytes()),
            ("chain.pem".into(), signed.chain_pem.as_bytes()),
            (format!("{}.key", self.service), key.as_bytes()),
            (format!("{}.pem", self.service), served.as_bytes()),
        ];
        files::write_all(&self.out, &files)
    }
}

impl RequestArgs {
    async fn sign(&self, csr: &str, client: &Client) -> Result<Value, CliError> {
        let mut body = json!({ "Csr": csr });
        if let Some(slot) = &self.slot {
            body["Slot"] = json!(slot);
        }
        if let Some(ttl) = &self.ttl {
            body["TTL"] = json!(ttl);
        }
        client.write(SIGN, &body).await
    }
}

impl SignArgs {
    /// Runs the command.
    pub async fn run(&self, client: &Client, output: &mut Output<'_>) -> Result<(), CliError> {
        let csr = String::from_utf8(files::read(&self.csr)?);
        let what = || self.csr.display().to_string();
        let csr = csr.map_err(|error| CliError::Certificate { what: what(), why: error.to_string() })?;
        let answer = self.request.sign(&csr, client).await?;
        if output.format() == Format::Json {
            return output.json(&answer);
        }
        let signed: Signed = client.typed(SIGN, &answer)?;
        output.text(&served(&what(), &signed)?)
    }
}

/// A request for a leaf, with the public key it is for.
struct Csr {
    pem: String,
    public_key: Vec<u8>,
}

impl Csr {
    fn new(key: &SecretKey, identity: &SpiffeId) -> Result<Self, CliError> {
        let failed = |source: rcgen::Error| CliError::Setup { what: "the CSR", source: source.into() };
        let pair = rcgen::KeyPair::from_pem(&key.to_pem()).map_err(failed)?;
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = vec![rcgen::SanType::URI(identity.to_string().try_into().map_err(failed)?)];
        let pem = params.serialize_request(&pair).and_then(|csr| csr.pem()).map_err(failed)?;
        Ok(Self { pem, public_key: rcgen::PublicKeyData::subject_public_key_info(&pair) })
    }

    /// Checks that the answer is for this request's key and identity, and gives leaf and chain as they are served.
    fn check(&self, signed: &Signed, identity: &SpiffeId) -> Result<String, CliError> {
        let refused = |why: String| CliError::Certificate { what: "the server's answer".into(), why };
        let leaf = CertificateDer::from_pem_slice(signed.cert_pem.as_bytes());
        let leaf = leaf.map_err(|error| refused(format!("it holds no leaf: {error}")))?;
        let (_, leaf) = X509Certificate::from_der(&leaf).map_err(|error| refused(error.to_string()))?;
        if leaf.public_key().raw != self.public_key {
            return Err(refused("the leaf is for another key".into()));
        }
        if signed.spiffe_id != identity.to_string() {
            return Err(refused(format!("{identity} was asked for, and the leaf is for {}", signed.spiffe_id)));
        }
        served("the server's answer", signed)
    }
}

/// The leaf and what stands between it and a root, as a server presents them. Some answers carry the chain behind the leaf already.
fn served(what: &str, signed: &Signed) -> Result<String, CliError> {
    let end = "-----END CERTIFICATE-----";
    let Some(position) = signed.cert_pem.find(end) else {
        return Err(CliError::Certificate { what: what.into(), why: "it holds no leaf".into() });
    };
    Ok(format!("{}\n{}", &signed.cert_pem[..position + end.len()], signed.chain_pem))
}

fn print(signed: &Signed, written: &[PathBuf], output: &mut Output<'_>) -> Result<(), CliError> {
    let shown = |path: &Path| path.display().to_string();
    if output.format() == Format::Json {
        return output.json(&json!({
            "SpiffeID": signed.spiffe_id,
            "SerialNumber": signed.serial_number,
            "ValidAfter": signed.valid_after,
            "ValidBefore": signed.valid_before,
            "Files": written.iter().map(|path| shown(path)).collect::<Vec<_>>(),
        }));
    }
    output.facts([
        ("Identity", Some(signed.spiffe_id.clone())),
        ("Serial", Some(signed.serial_number.clone())),
        ("Valid until", Some(signed.valid_before.clone())),
    ])?;
    if let [roots, chain, key, leaf] = written {
        output.line("")?;
        output.facts([
            ("Key", Some(shown(key))),
            ("Leaf and issuer", Some(shown(leaf))),
            ("Issuer", Some(shown(chain))),
            ("Roots", Some(shown(roots))),
        ])?;
        let check = format!("openssl verify -CAfile {} -untrusted {} {}", shown(roots), shown(chain), shown(leaf));
        output.line(&format!("\nCheck it: {}", visible(&check)))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(service: &str) -> SpiffeId {
        let name = |text| Name::parse("name", text).expect("a name");
        SpiffeId::service("example.org".parse().expect("a trust domain"), name("dc1"), name(service))
    }

    fn signed(pair: &rcgen::KeyPair, identity: &SpiffeId) -> Signed {
        let params = rcgen::CertificateParams::default();
        let certificate = params.self_signed(pair).expect("a certificate").pem();
        Signed {
            serial_number: "01".into(),
            cert_pem: certificate.clone(),
            chain_pem: certificate.clone(),
            roots_pem: certificate,
            spiffe_id: identity.to_string(),
            valid_after: String::new(),
            valid_before: String::new(),
        }
    }

    #[test]
    fn a_request_is_made_for_each_kind_of_key() {
        for kind in KeyKind::ALL {
            let key = AwsLcKeyMaker.make(kind).expect("a key");
            let csr = Csr::new(&key, &identity("web")).expect("a CSR");
            let pair = rcgen::KeyPair::from_pem(&key.to_pem()).expect("the same key");
            assert!(csr.check(&signed(&pair, &identity("web")), &identity("web")).is_ok(), "{kind}");
        }
    }

    #[test]
    fn a_leaf_for_another_key_or_identity_is_refused() {
        let key = AwsLcKeyMaker.make(KeyKind::EcP256).expect("a key");
        let csr = Csr::new(&key, &identity("web")).expect("a CSR");
        let other = rcgen::KeyPair::generate().expect("a key");
        let error = csr.check(&signed(&other, &identity("web")), &identity("web")).expect_err("another key");
        assert_eq!(error.to_string(), "the server's answer cannot be used: the leaf is for another key");
        let own = rcgen::KeyPair::from_pem(&key.to_pem()).expect("the same key");
        assert!(csr.check(&signed(&own, &identity("db")), &identity("web")).is_err());
    }

    #[test]
    fn leaf_and_chain_are_written_once_even_if_the_answer_repeats_the_chain() {
        let pair = rcgen::KeyPair::generate().expect("a key");
        let mut signed = signed(&pair, &identity("web"));
        signed.cert_pem.push_str(&signed.chain_pem.clone());
        let served = served("test", &signed).expect("it has a leaf");
        assert_eq!(served.matches("BEGIN CERTIFICATE").count(), 2);
        assert!(served.contains("-----END CERTIFICATE-----\n-----BEGIN CERTIFICATE-----"));
    }
}
