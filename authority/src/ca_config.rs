//! The CA configuration, with Consul's names and bounds (`agent/structs/connect_ca.go`); the defaults are those of carrack's security page.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{id::Revision, key::KeyKind};

/// The shortest leaf lifetime.
pub const LEAF_TTL_MIN: Duration = Duration::from_secs(3600);
/// The longest leaf lifetime.
pub const LEAF_TTL_MAX: Duration = Duration::from_secs(365 * 86_400);
/// The shortest issuer lifetime.
pub const INTERMEDIATE_TTL_MIN: Duration = Duration::from_secs(3 * 3600);
/// The longest root lifetime: its end still fits the four-digit years of RFC 5280.
pub const ROOT_TTL_MAX: Duration = Duration::from_secs(100 * 365 * 86_400);
/// The highest limits: above them a limit limits nothing.
pub const CSR_LIMIT_MAX: u32 = 1_000_000;

/// What an operator may set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaConfig {
    /// `LeafCertTTL`
    pub leaf_ttl: Duration,
    /// `IntermediateCertTTL`
    pub intermediate_ttl: Duration,
    /// `RootCertTTL`
    pub root_ttl: Duration,
    /// `PrivateKeyType` and `PrivateKeyBits` of roots and issuers.
    pub key_kind: KeyKind,
    /// `CSRMaxPerSecond`; 0: admission is derived from the CPU.
    pub csr_max_per_second: u32,
    /// `CSRMaxConcurrent`; 0: admission is derived from the CPU.
    pub csr_max_concurrent: u32,
}

impl Default for CaConfig {
    fn default() -> Self {
        Self {
            leaf_ttl: Duration::from_secs(72 * 3600),
            intermediate_ttl: Duration::from_secs(8760 * 3600),
            root_ttl: Duration::from_secs(87_600 * 3600),
            key_kind: KeyKind::default(),
            csr_max_per_second: 0,
            csr_max_concurrent: 0,
        }
    }
}

/// A value out of its bounds. The texts begin as Consul's do: its clients match on them.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum BadCaConfig {
    /// `LeafCertTTL` is too short.
    #[error("leaf cert TTL must be greater or equal than 1h0m0s, got {} s", .0.as_secs())]
    LeafTooShort(Duration),
    /// `LeafCertTTL` is too long.
    #[error("leaf cert TTL must be less than 8760h0m0s, got {} s", .0.as_secs())]
    LeafTooLong(Duration),
    /// `IntermediateCertTTL` is too short in itself.
    #[error("Intermediate Cert TTL must be greater or equal than 3h0m0s, got {} s", .0.as_secs())]
    IntermediateTooShort(Duration),
    /// `IntermediateCertTTL` does not cover three leaves.
    #[error("Intermediate Cert TTL must be greater or equal than 3 * LeafCertTTL (>={} s), got {} s", .leaf.as_secs().saturating_mul(3), .intermediate.as_secs())]
    IntermediateBelowLeaves {
        /// `LeafCertTTL`
        leaf: Duration,
        /// `IntermediateCertTTL`
        intermediate: Duration,
    },
    /// `RootCertTTL` does not cover an issuer.
    #[error("Root Cert TTL must be greater or equal than Intermediate Cert TTL (>={} s), got {} s", .intermediate.as_secs(), .root.as_secs())]
    RootBelowIntermediate {
        /// `IntermediateCertTTL`
        intermediate: Duration,
        /// `RootCertTTL`
        root: Duration,
    },
    /// `RootCertTTL` is too long.
    #[error("Root Cert TTL must be at most 876000h0m0s, got {} s", .0.as_secs())]
    RootTooLong(Duration),
    /// A CSR limit is too high.
    #[error("{key} must be at most {CSR_LIMIT_MAX}, got {value}; 0 derives the admission from the CPU")]
    LimitTooHigh {
        /// `CSRMaxPerSecond` or `CSRMaxConcurrent`.
        key: String,
        /// What was given.
        value: u32,
    },
}

impl CaConfig {
    /// Checks every bound; the first one that fails is the answer.
    pub fn validate(&self) -> Result<(), BadCaConfig> {
        self.validate_ttls()?;
        for (key, value) in
            [("CSRMaxPerSecond", self.csr_max_per_second), ("CSRMaxConcurrent", self.csr_max_concurrent)]
        {
            if value > CSR_LIMIT_MAX {
                return Err(BadCaConfig::LimitTooHigh { key: key.into(), value });
            }
        }
        Ok(())
    }

    fn validate_ttls(&self) -> Result<(), BadCaConfig> {
        let (leaf, intermediate, root) = (self.leaf_ttl, self.intermediate_ttl, self.root_ttl);
        if leaf < LEAF_TTL_MIN {
            return Err(BadCaConfig::LeafTooShort(leaf));
        }
        if leaf > LEAF_TTL_MAX {
            return Err(BadCaConfig::LeafTooLong(leaf));
        }
        if intermediate < INTERMEDIATE_TTL_MIN {
            return Err(BadCaConfig::IntermediateTooShort(intermediate));
        }
        if intermediate < leaf * 3 {
            return Err(BadCaConfig::IntermediateBelowLeaves { leaf, intermediate });
        }
        if root < intermediate {
            return Err(BadCaConfig::RootBelowIntermediate { intermediate, root });
        }
        if root > ROOT_TTL_MAX {
            return Err(BadCaConfig::RootTooLong(root));
        }
        Ok(())
    }
}

/// The configuration in force, with the entries that wrote it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredCaConfig {
    /// The values.
    pub config: CaConfig,
    /// The entry that wrote it first.
    pub created: Revision,
    /// The entry that changed it last.
    pub modified: Revision,
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn with(leaf: Duration, intermediate: Duration, root: Duration) -> Result<(), String> {
        let config = CaConfig { leaf_ttl: leaf, intermediate_ttl: intermediate, root_ttl: root, ..CaConfig::default() };
        config.validate().map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_within_the_bounds() {
        assert_eq!(CaConfig::default().validate(), Ok(()));
    }

    #[test]
    fn each_bound_holds_at_its_edge() {
        let nanosecond = Duration::from_nanos(1);
        assert_eq!(with(LEAF_TTL_MIN, INTERMEDIATE_TTL_MIN, INTERMEDIATE_TTL_MIN), Ok(()));
        assert_eq!(with(LEAF_TTL_MAX, LEAF_TTL_MAX * 3, ROOT_TTL_MAX), Ok(()));
        assert!(with(LEAF_TTL_MIN - nanosecond, HOUR * 9, HOUR * 9).is_err());
        assert!(with(LEAF_TTL_MAX + nanosecond, ROOT_TTL_MAX, ROOT_TTL_MAX).is_err());
        assert!(with(HOUR, INTERMEDIATE_TTL_MIN - nanosecond, HOUR * 9).is_err());
        assert!(with(HOUR * 2, HOUR * 6 - nanosecond, HOUR * 9).is_err());
        assert!(with(HOUR, HOUR * 3, HOUR * 3 - nanosecond).is_err());
        assert!(with(HOUR, HOUR * 3, ROOT_TTL_MAX + nanosecond).is_err());
    }

    #[test]
    fn any_values_are_refused_without_a_panic() {
        for leaf in [Duration::ZERO, HOUR, LEAF_TTL_MAX, Duration::MAX] {
            for intermediate in [Duration::ZERO, HOUR * 3, Duration::MAX] {
                for root in [Duration::ZERO, HOUR * 3, Duration::MAX] {
                    assert_eq!(
                        with(leaf, intermediate, root).is_ok(),
                        leaf == HOUR && intermediate == root && root == HOUR * 3
                    );
                }
            }
        }
        let bad = BadCaConfig::IntermediateBelowLeaves { leaf: Duration::MAX, intermediate: Duration::ZERO };
        assert!(bad.to_string().contains("3 * LeafCertTTL"));
    }

    #[test]
    fn texts_begin_as_consuls_do() {
        let text = with(HOUR * 24, HOUR * 24, HOUR * 24).unwrap_err();
        assert_eq!(
            text,
            "Intermediate Cert TTL must be greater or equal than 3 * LeafCertTTL (>=259200 s), got 86400 s"
        );
        let config = CaConfig { csr_max_concurrent: CSR_LIMIT_MAX + 1, ..CaConfig::default() };
        let text = config.validate().map_err(|error| error.to_string());
        let expected = "CSRMaxConcurrent must be at most 1000000, got 1000001; 0 derives the admission from the CPU";
        assert_eq!(text, Err(expected.to_owned()));
    }
}
