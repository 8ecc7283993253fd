//! Sealing: what one server must keep and others must be able to open, encrypted in the age format (age-encryption.org/v1)
//! to X25519 recipients, so that the operator's standard tools open it too.

mod low_order;

use std::{collections::BTreeSet, fmt, io::Read, io::Write, str::FromStr, sync::Arc};

use age::secrecy::ExposeSecret;
use zeroize::Zeroizing;

use low_order::has_low_order;

/// The most recipients of one sealed value: seven voters in a joint configuration with seven others, the recovery
/// recipient, and room for learners.
pub const RECIPIENTS_MAX: usize = 32;
/// The most bytes that are sealed or unsealed: a root key of RSA 4096 takes 2.4 KiB as PKCS#8, each stanza 0.1 KiB.
pub const SEALED_BYTES_MAX: usize = 64 * 1024;

/// Whom something is sealed to: an age X25519 recipient, `age1...`. Public.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient(Arc<str>);

impl Recipient {
    /// The recipient as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Recipient {
    type Err = SealError;

    /// Reads an operator's recipient. A secret key given by mistake is refused without being repeated.
    fn from_str(text: &str) -> Result<Self, SealError> {
        if text.to_ascii_uppercase().starts_with(IDENTITY_PREFIX) {
            return Err(SealError::SecretAsRecipient);
        }
        let parsed = age::x25519::Recipient::from_str(text).map(|recipient| recipient.to_string());
        match parsed {
            Ok(recipient) if !has_low_order(&recipient) => Ok(Self(recipient.into())),
            _ => Err(SealError::BadRecipient { text: text.chars().take(RECIPIENT_SHOWN_CHARS).collect() }),
        }
    }
}

const IDENTITY_PREFIX: &str = "AGE-SECRET-KEY-";
/// A recipient has 62 characters; more is not worth repeating in an error.
const RECIPIENT_SHOWN_CHARS: usize = 70;

/// What opens sealed values: an age X25519 identity. Wiped when dropped; `Debug` prints `...`.
pub struct SealingIdentity {
    text: Zeroizing<String>,
    recipient: Recipient,
}

impl SealingIdentity {
    /// Puts together an identity and the recipient that a sealer has derived from it.
    pub fn from_parts(text: Zeroizing<String>, recipient: Recipient) -> Self {
        Self { text, recipient }
    }

    /// The recipient that belongs to it.
    pub fn recipient(&self) -> &Recipient {
        &self.recipient
    }

    /// The identity as text, `AGE-SECRET-KEY-1...`. Whoever copies it wipes the copy.
    pub fn expose_text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for SealingIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SealingIdentity(of {}, ...)", self.recipient)
    }
}

/// Seals and unseals. The simulator's implementation is seeded.
pub trait Sealer: Send + Sync {
    /// Makes a new identity: a server's, or an operator's recovery identity.
    fn generate(&self) -> Result<SealingIdentity, SealError>;

    /// Reads an identity from its text.
    fn read_identity(&self, text: &str) -> Result<SealingIdentity, SealError>;

    /// Encrypts to every recipient; each alone can open it.
    fn seal(&self, plaintext: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, SealError>;

    /// Decrypts what was sealed to `identity`'s recipient.
    fn unseal(&self, sealed: &[u8], identity: &SealingIdentity) -> Result<Zeroizing<Vec<u8>>, SealError>;
}

/// Something could not be sealed or unsealed. Never holds plaintext or key bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The text is no recipient.
    #[error("`{text}` is not an age recipient: expected `age1` and 58 more characters, as `age-keygen` prints")]
    BadRecipient {
        /// What was given, cut.
        text: String,
    },
    /// A secret key was given where a public one belongs.
    #[error(
        "a secret key (AGE-SECRET-KEY-...) was given as a recipient: give the public `age1...` instead; `age-keygen -y` prints it"
    )]
    SecretAsRecipient,
    /// The text is no identity.
    #[error("not an age identity: expected `AGE-SECRET-KEY-1...`")]
    BadIdentity,
    /// The number of recipients is out of bounds.
    #[error("{count} recipients were given: between 1 and {RECIPIENTS_MAX} are possible")]
    RecipientCount {
        /// How many.
        count: usize,
    },
    /// A recipient was given twice.
    #[error("recipient {0} was given twice")]
    DuplicateRecipient(Recipient),
    /// More bytes than anything that is sealed here.
    #[error("{bytes} bytes are more than the {SEALED_BYTES_MAX} that can be sealed or unsealed")]
    TooLarge {
        /// How many.
        bytes: usize,
    },
    /// The encryption failed.
    #[error("the value could not be sealed")]
    NotSealed,
    /// The value is sealed, but not to this identity.
    #[error("the value is not sealed to {0}")]
    NotForUs(Recipient),
    /// The sealed value is damaged or no age file.
    #[error("the sealed value is damaged, or it is no age file")]
    Damaged,
}

/// Seals with the `age` crate, which draws from the operating system's randomness.
#[derive(Clone, Copy, Debug, Default)]
pub struct AgeSealer;

impl Sealer for AgeSealer {
    fn generate(&self) -> Result<SealingIdentity, SealError> {
        Ok(from_age(&age::x25519::Identity::generate()))
    }

    fn read_identity(&self, text: &str) -> Result<SealingIdentity, SealError> {
        parse_identity(text).map(|identity| from_age(&identity))
    }

    fn seal(&self, plaintext: &[u8], recipients: &[Recipient]) -> Result<Vec<u8>, SealError> {
        check_sealable(plaintext, recipients)?;
        let parse = |recipient: &Recipient| age::x25519::Recipient::from_str(recipient.as_str());
        let keys: Vec<_> = recipients.iter().map(parse).collect::<Result<_, _>>().map_err(|_| SealError::NotSealed)?;
        let encryptor = age::Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient));
        let mut sealed = Vec::new();
        let mut writer =
            encryptor.map_err(|_| SealError::NotSealed)?.wrap_output(&mut sealed).map_err(|_| SealError::NotSealed)?;
        writer.write_all(plaintext).map_err(|_| SealError::NotSealed)?;
        writer.finish().map_err(|_| SealError::NotSealed)?;
        Ok(sealed)
    }

    fn unseal(&self, sealed: &[u8], identity: &SealingIdentity) -> Result<Zeroizing<Vec<u8>>, SealError> {
        check_size(sealed)?;
        let key = parse_identity(identity.expose_text())?;
        let decryptor = age::Decryptor::new(sealed).map_err(|_| SealError::Damaged)?;
        let opened = decryptor.decrypt(std::iter::once(&key as &dyn age::Identity));
        let reader = opened.map_err(|error| match error {
            age::DecryptError::NoMatchingKeys => SealError::NotForUs(identity.recipient.clone()),
            _ => SealError::Damaged,
        })?;
        // The plaintext is shorter than the file; with its room reserved, growing leaves no copy in freed memory.
        let mut plaintext = Zeroizing::new(Vec::with_capacity(sealed.len()));
        reader.take(SEALED_BYTES_MAX as u64).read_to_end(&mut plaintext).map_err(|_| SealError::Damaged)?;
        Ok(plaintext)
    }
}

fn parse_identity(text: &str) -> Result<age::x25519::Identity, SealError> {
    age::x25519::Identity::from_str(text).map_err(|_| SealError::BadIdentity)
}

fn from_age(identity: &age::x25519::Identity) -> SealingIdentity {
    let text = Zeroizing::new(identity.to_string().expose_secret().to_owned());
    SealingIdentity { text, recipient: Recipient(identity.to_public().to_string().into()) }
}

/// Refuses what no sealer seals: no, too many or repeated recipients, and too many bytes.
pub fn check_sealable(plaintext: &[u8], recipients: &[Recipient]) -> Result<(), SealError> {
    check_recipients(recipients)?;
    check_size(plaintext)
}

fn check_size(bytes: &[u8]) -> Result<(), SealError> {
    if bytes.len() > SEALED_BYTES_MAX { Err(SealError::TooLarge { bytes: bytes.len() }) } else { Ok(()) }
}

fn check_recipients(recipients: &[Recipient]) -> Result<(), SealError> {
    if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX {
        return Err(SealError::RecipientCount { count: recipients.len() });
    }
    let mut seen = BTreeSet::new();
    match recipients.iter().find(|recipient| !seen.insert(*recipient)) {
        Some(twice) => Err(SealError::DuplicateRecipient(twice.clone())),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
