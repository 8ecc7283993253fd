//! Rust source as tokens: words and single punctuation marks with their lines, without comments, strings and character literals.
//! Not a parser: enough to tell a declaration from a mention.

/// A word (identifier, keyword, number) or one punctuation mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token<'a> {
    /// The text.
    pub(crate) text: &'a str,
    /// Its line, from 1.
    pub(crate) line: usize,
}

/// The tokens of a source text.
pub(crate) fn tokens(source: &str) -> Vec<Token<'_>> {
    let mut scanner = Scanner { source, position: 0, line: 1, tokens: Vec::new() };
    while scanner.step() {}
    scanner.tokens
}

struct Scanner<'a> {
    source: &'a str,
    position: usize,
    line: usize,
    tokens: Vec<Token<'a>>,
}

impl<'a> Scanner<'a> {
    /// Reads one token, blank, comment or literal; false at the end.
    fn step(&mut self) -> bool {
        let rest = &self.source[self.position..];
        let Some(first) = rest.chars().next() else { return false };
        let length = match first {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => 1 + quoted(&rest[1..]),
            '\'' => character(rest),
            _ if raw_string(rest).is_some() => raw_string(rest).unwrap_or(1),
            _ if first.is_alphanumeric() || first == '_' => self.word(rest),
            _ if first.is_whitespace() => first.len_utf8(),
            _ => self.push(&rest[..first.len_utf8()]),
        };
        self.line += rest[..length].matches('\n').count();
        self.position += length;
        true
    }

    fn word(&mut self, rest: &'a str) -> usize {
        let end = rest.find(|character: char| !character.is_alphanumeric() && character != '_');
        self.push(&rest[..end.unwrap_or(rest.len())])
    }

    fn push(&mut self, text: &'a str) -> usize {
        self.tokens.push(Token { text, line: self.line });
        text.len()
    }
}

/// The length of a block comment, which may hold others.
fn block_comment(rest: &str) -> usize {
    let (mut depth, mut position) = (0_usize, 0);
    while position < rest.len() {
        let here = &rest.as_bytes()[position..];
        let length = if here.starts_with(b"/*") {
            depth += 1;
            2
        } else if here.starts_with(b"*/") {
            depth -= 1;
            2
        } else {
            1
        };
        position += length;
        if depth == 0 {
            return position;
        }
    }
    rest.len()
}

/// The length of a string's rest, its closing quote included.
fn quoted(rest: &str) -> usize {
    let mut is_escaped = false;
    for (position, byte) in rest.bytes().enumerate() {
        match byte {
            b'"' if !is_escaped => return position + 1,
            b'\\' => is_escaped = !is_escaped,
            _ => is_escaped = false,
        }
    }
    rest.len()
}

/// The length of a character literal, or of the mark of a lifetime or label.
fn character(rest: &str) -> usize {
    let mut characters = rest.char_indices().skip(1);
    match characters.next() {
        Some((_, '\\')) => rest[3..].find('\'').map_or(rest.len(), |position| position + 4),
        Some(_) => match characters.next() {
            Some((position, '\'')) => position + 1,
            _ => 1,
        },
        None => 1,
    }
}

/// The length of a raw string such as `r#"..."#`, if one begins here.
fn raw_string(rest: &str) -> Option<usize> {
    let prefix = ["br", "cr", "r"].into_iter().find(|prefix| rest.starts_with(prefix))?;
    let hashes = rest[prefix.len()..].bytes().take_while(|byte| *byte == b'#').count();
    let body = prefix.len() + hashes + 1;
    if rest.as_bytes().get(body - 1) != Some(&b'"') {
        return None;
    }
    let close = format!("\"{}", "#".repeat(hashes));
    Some(rest[body..].find(&close).map_or(rest.len(), |position| body + position + close.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(source: &str) -> Vec<&str> {
        tokens(source).into_iter().map(|token| token.text).collect()
    }

    #[test]
    fn comments_and_literals_leave_nothing_behind() {
        assert_eq!(words("a // b\nc /* d /* e */ f */ g"), ["a", "c", "g"]);
        assert_eq!(words(r#"let a = "b \" c";"#), ["let", "a", "=", ";"]);
        assert_eq!(words("r##\"a \"# b\"## c br\"d\" e"), ["c", "e"]);
        assert_eq!(words(r"'a' '\'' '\u{1f}' b"), ["b"]);
        assert_eq!(words("fn a<'b>(c: &'b str)"), ["fn", "a", "<", "b", ">", "(", "c", ":", "&", "b", "str", ")"]);
    }

    #[test]
    fn lines_are_counted_through_literals() {
        let found = tokens("a\n\"b\nc\"\nd");
        assert_eq!(found.last(), Some(&Token { text: "d", line: 4 }));
    }
}
