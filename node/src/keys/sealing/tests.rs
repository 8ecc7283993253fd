//! Tests of `keys::sealing`.

use super::*;

fn stanzas(sealed: &[u8]) -> Vec<String> {
    let text = String::from_utf8_lossy(sealed);
    text.lines()
        .take_while(|line| !line.starts_with("---"))
        .filter(|line| line.starts_with("-> "))
        .map(Into::into)
        .collect()
}

#[test]
fn each_recipient_alone_opens_a_standard_age_file() {
    let server = AgeSealer.generate().unwrap();
    let recovery = AgeSealer.generate().unwrap();
    let recipients = [server.recipient().clone(), recovery.recipient().clone()];
    let sealed = AgeSealer.seal(b"root key", &recipients).unwrap();

    assert!(sealed.starts_with(b"age-encryption.org/v1\n-> X25519 "));
    let of_recipients = stanzas(&sealed).iter().filter(|stanza| stanza.starts_with("-> X25519 ")).count();
    assert_eq!(of_recipients, 2, "one stanza a recipient: {:?}", stanzas(&sealed));
    for identity in [&server, &recovery] {
        assert_eq!(AgeSealer.unseal(&sealed, identity).unwrap().as_slice(), b"root key");
        let again = AgeSealer.read_identity(identity.expose_text()).unwrap();
        assert_eq!(AgeSealer.unseal(&sealed, &again).unwrap().as_slice(), b"root key");
    }
    assert!(!sealed.windows(8).any(|window| window == b"root key"));
}

#[test]
fn whoever_is_no_recipient_opens_nothing() {
    let server = AgeSealer.generate().unwrap();
    let removed = AgeSealer.generate().unwrap();
    let sealed = AgeSealer.seal(b"root key", &[server.recipient().clone()]).unwrap();
    let refused = AgeSealer.unseal(&sealed, &removed).unwrap_err();
    assert_eq!(refused, SealError::NotForUs(removed.recipient().clone()));
}

#[test]
fn a_damaged_or_cut_file_is_refused() {
    let identity = AgeSealer.generate().unwrap();
    let sealed = AgeSealer.seal(b"root key", &[identity.recipient().clone()]).unwrap();
    for length in 0..sealed.len() {
        assert!(AgeSealer.unseal(&sealed[..length], &identity).is_err(), "cut at {length}");
    }
    for position in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[position] ^= 1;
        assert!(AgeSealer.unseal(&flipped, &identity).is_err(), "flipped at {position}");
    }
    assert_eq!(AgeSealer.unseal(b"", &identity).unwrap_err(), SealError::Damaged);
}

#[test]
fn an_operators_recipient_is_checked_before_anything_is_sealed_to_it() {
    let identity = AgeSealer.generate().unwrap();
    let text = identity.recipient().to_string();
    assert_eq!(&text.parse::<Recipient>().unwrap(), identity.recipient());

    let mistyped = text.replacen("age1", "age1q", 1);
    for bad in ["", "age1", "ssh-ed25519 AAAA", &mistyped, &text[..61]] {
        assert!(matches!(bad.parse::<Recipient>(), Err(SealError::BadRecipient { .. })), "{bad}");
    }
    for secret in [identity.expose_text().to_owned(), identity.expose_text().to_lowercase()] {
        let error = secret.parse::<Recipient>().unwrap_err();
        assert_eq!(error, SealError::SecretAsRecipient);
        assert!(!format!("{error} {error:?}").contains(&secret[16..]));
    }
}

#[test]
fn a_recipient_that_everybody_can_open_is_refused() {
    for text in LOW_ORDER_RECIPIENTS {
        assert!(text.parse::<age::x25519::Recipient>().is_ok(), "age itself reads {text}");
        assert!(matches!(text.parse::<Recipient>(), Err(SealError::BadRecipient { .. })), "{text}");
    }
}

/// The points of low order, and zero with the ignored top bit set.
const LOW_ORDER_RECIPIENTS: [&str; 8] = [
    "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqq5cu47z",
    "age1qyqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqj7vrya",
    "age1ur4h5lpmgxu2u9jku0a0r87ydtdqnr0tnsetrlvxvgz3vh6fhqqqzyt4v9",
    "age1t7wft09r2zxzfvwsk92eeql0tvzyghxytqwgapkcyf8dm5ylz9ts6wm9s8",
    "age1anlllllllllllllllllllllllllllllllllllllllllllllllals4n2t7m",
    "age1ahlllllllllllllllllllllllllllllllllllllllllllllllalsn46ayy",
    "age1amlllllllllllllllllllllllllllllllllllllllllllllllalselrwrv",
    "age1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqzqqsuwj9m",
];

#[test]
fn recipients_are_counted_and_distinct() {
    let one = AgeSealer.generate().unwrap().recipient().clone();
    assert_eq!(AgeSealer.seal(b"x", &[]).unwrap_err(), SealError::RecipientCount { count: 0 });
    let twice = AgeSealer.seal(b"x", &[one.clone(), one.clone()]).unwrap_err();
    assert_eq!(twice, SealError::DuplicateRecipient(one.clone()));
    let many = vec![one; RECIPIENTS_MAX + 1];
    assert_eq!(AgeSealer.seal(b"x", &many).unwrap_err(), SealError::RecipientCount { count: RECIPIENTS_MAX + 1 });
    let large = AgeSealer.seal(&vec![0; SEALED_BYTES_MAX + 1], &many).unwrap_err();
    assert!(matches!(large, SealError::RecipientCount { .. }));
}

#[test]
fn identities_print_no_secret() {
    let identity = AgeSealer.generate().unwrap();
    let secret = &identity.expose_text()[16..];
    assert!(!format!("{identity:?}").contains(secret));
    assert!(format!("{identity:?}").contains(identity.recipient().as_str()));
}
