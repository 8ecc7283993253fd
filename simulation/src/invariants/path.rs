//! A second validator of paths, written from RFC 5280 section 6.1 on another parser than the product's: names chain, signatures and
//! dates hold, every certificate above the leaf is a CA that may sign, path lengths leave room, those of the anchor too.

use aws_lc_rs::signature;
use x509_parser::prelude::{FromDer, X509Certificate};

/// Why there is no path, or none that holds.
pub(super) type Refusal = String;

/// Validates `chain`, the leaf first, up to one of the anchors, at so many seconds after 1970.
pub(super) fn validate(chain: &[&[u8]], anchors: &[&[u8]], now: i64) -> Result<(), Refusal> {
    let chain = chain.iter().map(|der| parse(der)).collect::<Result<Vec<_>, _>>()?;
    let anchors = anchors.iter().map(|der| parse(der)).collect::<Result<Vec<_>, _>>()?;
    let Some(top) = chain.last() else { return Err("there is no certificate".into()) };
    let mut refusal = format!("no anchor is named {}", top.issuer());
    // What comes after the one that an anchor has signed is for those who do not have that anchor: a bridge, for example.
    for (place, last) in chain.iter().enumerate() {
        for anchor in anchors.iter().filter(|anchor| anchor.subject().as_raw() == last.issuer().as_raw()) {
            let path: Vec<&X509Certificate<'_>> = chain[..=place].iter().chain(std::iter::once(anchor)).collect();
            match validate_path(&path, now) {
                Ok(()) => return Ok(()),
                Err(error) => refusal = error,
            }
        }
    }
    Err(refusal)
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refusal> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        Ok((rest, _)) => Err(format!("{} bytes follow after a certificate", rest.len())),
        Err(error) => Err(format!("a certificate cannot be parsed: {error}")),
    }
}

/// `path` begins with the leaf and ends with the anchor.
fn validate_path(path: &[&X509Certificate<'_>], now: i64) -> Result<(), Refusal> {
    for (depth, certificate) in path.iter().enumerate() {
        let name = certificate.subject();
        let (begin, end) =
            (certificate.validity().not_before.timestamp(), certificate.validity().not_after.timestamp());
        if now < begin || now > end {
            return Err(format!("{name} is valid from {begin} to {end}, it is {now}"));
        }
        let known = ["2.5.29.15", "2.5.29.17", "2.5.29.19", "2.5.29.37"];
        let is_unknown = |id: String| !known.contains(&id.as_str());
        if certificate.extensions().iter().any(|it| it.critical && is_unknown(it.oid.to_id_string())) {
            return Err(format!("{name} has a critical extension that is not known"));
        }
        let Some((inner, below)) = depth.checked_sub(1).map(|inner| (path[inner], &path[1..depth])) else {
            check_leaf(certificate)?;
            continue;
        };
        check_ca(certificate, below)?;
        if inner.issuer().as_raw() != certificate.subject().as_raw() {
            return Err(format!("{} does not name {name} as its issuer", inner.subject()));
        }
        check_signature(inner, certificate)?;
    }
    Ok(())
}

/// X509-SVID section 4.4: a leaf serves at both ends of a connection.
fn check_leaf(leaf: &X509Certificate<'_>) -> Result<(), Refusal> {
    let is_ca = leaf.basic_constraints().ok().flatten().is_some_and(|it| it.value.ca);
    let signs = leaf.key_usage().ok().flatten().is_some_and(|it| it.value.key_cert_sign());
    if is_ca || signs {
        return Err("the leaf is a CA".into());
    }
    let purposes = leaf.extended_key_usage().ok().flatten().map(|it| it.value);
    if purposes.is_some_and(|it| it.client_auth && it.server_auth) {
        return Ok(());
    }
    Err("the leaf is not for both, clients and servers".into())
}

/// `below` are the CAs between this one and the leaf; self-issued ones do not count (section 6.1.4, l).
fn check_ca(certificate: &X509Certificate<'_>, below: &[&X509Certificate<'_>]) -> Result<(), Refusal> {
    let name = certificate.subject();
    let constraints = certificate.basic_constraints().ok().flatten().map(|it| it.value);
    let Some(constraints) = constraints.filter(|it| it.ca) else { return Err(format!("{name} is no CA")) };
    if !certificate.key_usage().ok().flatten().is_some_and(|it| it.value.key_cert_sign()) {
        return Err(format!("{name} may not sign certificates"));
    }
    let count = below.iter().filter(|it| it.subject().as_raw() != it.issuer().as_raw()).count();
    if constraints.path_len_constraint.is_some_and(|most| count > most as usize) {
        return Err(format!("{name} has the path length {:?}, {count} CAs follow", constraints.path_len_constraint));
    }
    Ok(())
}

fn check_signature(certificate: &X509Certificate<'_>, signer: &X509Certificate<'_>) -> Result<(), Refusal> {
    let key = signer.public_key();
    let is_p384 = key.subject_public_key.data.len() == 97;
    let algorithm: &dyn signature::VerificationAlgorithm =
        match (certificate.signature_algorithm.algorithm.to_id_string().as_str(), is_p384) {
            ("1.2.840.10045.4.3.2", false) => &signature::ECDSA_P256_SHA256_ASN1,
            ("1.2.840.10045.4.3.3", true) => &signature::ECDSA_P384_SHA384_ASN1,
            ("1.3.101.112", _) => &signature::ED25519,
            ("1.2.840.113549.1.1.11", _) => &signature::RSA_PKCS1_2048_8192_SHA256,
            (other, _) => return Err(format!("the signature algorithm {other} does not fit the signer's key")),
        };
    let verified = signature::UnparsedPublicKey::new(algorithm, &key.subject_public_key.data)
        .verify(certificate.tbs_certificate.as_ref(), &certificate.signature_value.data);
    verified.map_err(|_| format!("{} was not signed by {}", certificate.subject(), signer.subject()))
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
        KeyUsagePurpose,
    };

    use super::*;

    /// A time in the life of every certificate that is made here.
    const NOW: i64 = 1_767_225_600;

    type Authority = CertifiedIssuer<'static, KeyPair>;

    fn params(name: &str, constraints: Option<BasicConstraints>) -> CertificateParams {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        if let Some(constraints) = constraints {
            params.is_ca = IsCa::Ca(constraints);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        }
        params
    }

    fn root(constraints: BasicConstraints) -> Authority {
        CertifiedIssuer::self_signed(params("root", Some(constraints)), KeyPair::generate().unwrap()).unwrap()
    }

    fn below(issuer: &Authority, name: &str, constraints: BasicConstraints) -> Authority {
        CertifiedIssuer::signed_by(params(name, Some(constraints)), KeyPair::generate().unwrap(), issuer).unwrap()
    }

    fn leaf(issuer: &Authority) -> Vec<u8> {
        leaf_for(issuer, &[ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth])
    }

    fn leaf_for(issuer: &Authority, purposes: &[ExtendedKeyUsagePurpose]) -> Vec<u8> {
        let mut params = params("leaf", None);
        params.extended_key_usages = purposes.to_vec();
        params.signed_by(&KeyPair::generate().unwrap(), issuer).unwrap().der().to_vec()
    }

    #[test]
    fn a_leaf_that_is_not_for_both_ends_of_a_connection_is_refused() {
        let root = root(BasicConstraints::Unconstrained);
        let leaf = leaf_for(&root, &[ExtendedKeyUsagePurpose::ClientAuth]);
        validate(&[&leaf], &[root.der()], NOW).unwrap_err();
    }

    #[test]
    fn a_leaf_under_an_issuer_under_a_root_is_good() {
        let root = root(BasicConstraints::Constrained(1));
        let issuer = below(&root, "issuer", BasicConstraints::Constrained(0));
        validate(&[&leaf(&issuer), issuer.der()], &[root.der()], NOW).unwrap();
    }

    #[test]
    fn path_lengths_count_those_of_the_anchor_too() {
        let short = root(BasicConstraints::Constrained(0));
        let issuer = below(&short, "issuer", BasicConstraints::Constrained(0));
        validate(&[&leaf(&issuer), issuer.der()], &[short.der()], NOW).unwrap_err();
        let long = root(BasicConstraints::Unconstrained);
        let issuer = below(&long, "issuer", BasicConstraints::Constrained(0));
        let second = below(&issuer, "second", BasicConstraints::Constrained(0));
        validate(&[&leaf(&second), second.der(), issuer.der()], &[long.der()], NOW).unwrap_err();
    }

    #[test]
    fn another_root_of_the_same_name_and_another_time_are_refused() {
        let (one, other) = (root(BasicConstraints::Unconstrained), root(BasicConstraints::Unconstrained));
        let leaf = leaf(&one);
        validate(&[&leaf], &[one.der()], NOW).unwrap();
        validate(&[&leaf], &[other.der()], NOW).unwrap_err();
        validate(&[&leaf], &[one.der()], 0).unwrap_err();
    }
}
