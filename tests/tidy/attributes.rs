//! No test is skipped, nothing is left for later, and each exception from a lint carries its reason and ends with its cause.

use super::scan::{Token, tokens};

/// Skipped tests, unfinished code, `allow` and `expect` without a reason in a source text.
pub(crate) fn violations(path: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut violations = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        if let Some(complaint) = complaint(&tokens[position..]) {
            violations.push(format!("{path}:{}: {complaint}", token.line));
        }
    }
    violations
}

fn complaint(tokens: &[Token<'_>]) -> Option<&'static str> {
    match texts(tokens).as_slice() {
        ["todo" | "unimplemented", "!", ..] => Some("finish it, or leave it out"),
        ["#", "[", ..] | ["#", "!", "[", ..] => attribute_complaint(tokens),
        _ => None,
    }
}

fn attribute_complaint(tokens: &[Token<'_>]) -> Option<&'static str> {
    let attribute = attribute(tokens);
    let opens = |word: &str| attribute.windows(2).any(|pair| pair == [word, "("]);
    if attribute.contains(&"ignore") {
        return Some("no test is ignored: repair it or delete it");
    }
    if opens("allow") {
        return Some("use `#[expect(lint, reason = \"...\")]` instead of `allow`: it ends with its cause");
    }
    if opens("expect") && !attribute.windows(2).any(|pair| pair == ["reason", "="]) {
        return Some("`expect` needs its reason");
    }
    None
}

/// The tokens of the attribute that begins here, without its outer brackets.
fn attribute<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    let mut depth = 0_usize;
    let mut inside = Vec::new();
    for token in tokens.iter().skip_while(|token| token.text != "[") {
        match token.text {
            "[" => depth += 1,
            "]" => depth -= 1,
            text => inside.push(text),
        }
        if depth == 0 {
            break;
        }
    }
    inside
}

fn texts<'a>(tokens: &[Token<'a>]) -> Vec<&'a str> {
    tokens.iter().take(3).map(|token| token.text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_violation_is_seen() {
        for source in [
            "#[ignore] #[test] fn a() {}",
            "#[ignore = \"slow\"] fn a() {}",
            "#[cfg_attr(feature = \"a\", ignore)] fn a() {}",
            "fn a() { todo!() }",
            "fn a() { unimplemented!(\"b\") }",
            "#[allow(dead_code)] fn a() {}",
            "#![allow(missing_docs)]",
            "#[cfg_attr(test, allow(unused))] fn a() {}",
            "#[expect(dead_code)] fn a() {}",
        ] {
            assert_eq!(violations("a.rs", source).len(), 1, "{source}");
        }
    }

    #[test]
    fn explained_exceptions_and_mentions_pass() {
        for source in [
            "#[expect(clippy::print_stdout, reason = \"the output of the command\")] fn a() {}",
            "// #[ignore] and todo!()",
            "const A: &str = \"#[allow(a)]\";",
            "fn a() { b.expect(\"why it cannot happen\") }",
            "#[derive(Debug)] struct A { list: [u8; 3] }",
        ] {
            assert_eq!(violations("a.rs", source), Vec::<String>::new(), "{source}");
        }
    }
}
