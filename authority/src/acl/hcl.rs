//! The part of HCL 1, the dialect of Consul's policies, that rules need: nested items with quoted strings, and the same as JSON.
//!
//! No numbers, templates or here-documents: nothing in a policy has them. HCL 2 parsers refuse what Consul accepts,
//! such as two settings on one line.

use std::{iter::Peekable, str::Chars};

/// How deep values may be nested; rules in JSON need four levels.
const DEPTH_MAX: usize = 8;

/// Why a text is not read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SyntaxError {
    /// Something else was expected.
    #[error("line {line}: expected {expected}, found {found}")]
    Unexpected {
        /// The line, from 1 upwards.
        line: usize,
        /// What was expected.
        expected: &'static str,
        /// What is there, escaped.
        found: String,
    },
    /// Values are nested too deep.
    #[error("line {line}: values are nested deeper than {DEPTH_MAX}")]
    TooDeep {
        /// The line, from 1 upwards.
        line: usize,
    },
}

/// A text, and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) text: String,
    pub(crate) line: usize,
}

/// What an item is set to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Value {
    Text(Text),
    List(Vec<Value>),
    Object(Vec<Item>),
}

/// `key = value`, `key "label" { ... }`, or `"key": value`: one or more keys and a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) keys: Vec<Text>,
    pub(crate) value: Value,
}

/// Reads a whole text: items, or one JSON object.
pub(crate) fn parse(text: &str) -> Result<Vec<Item>, SyntaxError> {
    let mut parser = Parser { tokens: Lexer::new(text), peeked: None };
    let is_json = matches!(parser.peek()?.kind, Kind::Sign('{'));
    let items = if is_json {
        parser.next()?;
        parser.items(1, Kind::Sign('}'))?
    } else {
        parser.items(0, Kind::End)?
    };
    let last = parser.next()?;
    if is_json && last.kind != Kind::End {
        return Err(last.unexpected("the end of the text"));
    }
    Ok(items)
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    Word(String),
    Text(String),
    Sign(char),
    End,
}

#[derive(Clone, Debug)]
struct Token {
    kind: Kind,
    line: usize,
}

impl Token {
    fn unexpected(&self, expected: &'static str) -> SyntaxError {
        let found = match &self.kind {
            Kind::Word(word) => format!("`{}`", word.escape_debug()),
            Kind::Text(text) => format!("\"{}\"", text.escape_debug()),
            Kind::Sign(sign) => format!("`{}`", sign.escape_debug()),
            Kind::End => "the end of the text".into(),
        };
        SyntaxError::Unexpected { line: self.line, expected, found }
    }
}

struct Parser<'a> {
    tokens: Lexer<'a>,
    peeked: Option<Token>,
}

impl Parser<'_> {
    fn next(&mut self) -> Result<Token, SyntaxError> {
        match self.peeked.take() {
            Some(token) => Ok(token),
            None => self.tokens.next(),
        }
    }

    fn peek(&mut self) -> Result<&Token, SyntaxError> {
        let token = self.next()?;
        Ok(self.peeked.insert(token))
    }

    fn skip(&mut self, sign: char) -> Result<(), SyntaxError> {
        if self.peek()?.kind == Kind::Sign(sign) {
            self.next()?;
        }
        Ok(())
    }

    /// Items up to `end`, which is taken unless it is the end of the text.
    fn items(&mut self, depth: usize, end: Kind) -> Result<Vec<Item>, SyntaxError> {
        let mut items = Vec::new();
        while self.peek()?.kind != end {
            items.push(self.item(depth)?);
            self.skip(',')?;
        }
        if end != Kind::End {
            self.next()?;
        }
        Ok(items)
    }

    fn item(&mut self, depth: usize) -> Result<Item, SyntaxError> {
        let mut keys = Vec::new();
        loop {
            let token = self.next()?;
            match token.kind {
                Kind::Word(text) | Kind::Text(text) => keys.push(Text { text, line: token.line }),
                Kind::Sign('=' | ':') if keys.len() == 1 => break,
                Kind::Sign('{') if !keys.is_empty() => {
                    self.peeked = Some(Token { kind: Kind::Sign('{'), line: token.line });
                    break;
                }
                _ if keys.is_empty() => return Err(token.unexpected("a name")),
                _ => return Err(token.unexpected("`=` or `{`")),
            }
        }
        Ok(Item { keys, value: self.value(depth + 1)? })
    }

    fn value(&mut self, depth: usize) -> Result<Value, SyntaxError> {
        let token = self.next()?;
        if depth > DEPTH_MAX {
            return Err(SyntaxError::TooDeep { line: token.line });
        }
        match token.kind {
            Kind::Text(text) => Ok(Value::Text(Text { text, line: token.line })),
            Kind::Sign('{') => Ok(Value::Object(self.items(depth, Kind::Sign('}'))?)),
            Kind::Sign('[') => {
                let mut values = Vec::new();
                while self.peek()?.kind != Kind::Sign(']') {
                    values.push(self.value(depth + 1)?);
                    self.skip(',')?;
                }
                self.next()?;
                Ok(Value::List(values))
            }
            _ => Err(token.unexpected("a string in quotes or `{`")),
        }
    }
}

struct Lexer<'a> {
    characters: Peekable<Chars<'a>>,
    line: usize,
}

impl<'a> Lexer<'a> {
    fn new(text: &'a str) -> Self {
        Self { characters: text.chars().peekable(), line: 1 }
    }

    fn next(&mut self) -> Result<Token, SyntaxError> {
        self.skip_space()?;
        let line = self.line;
        let kind = match self.characters.peek().copied() {
            None => Kind::End,
            Some('"') => Kind::Text(self.quoted()?),
            Some(first) if is_word(first) => {
                let mut word = String::new();
                while let Some(character) = self.characters.next_if(|character| is_word(*character)) {
                    word.push(character);
                }
                Kind::Word(word)
            }
            Some(sign) => {
                self.characters.next();
                Kind::Sign(sign)
            }
        };
        Ok(Token { kind, line })
    }

    fn skip_space(&mut self) -> Result<(), SyntaxError> {
        while let Some(character) = self.characters.peek().copied() {
            match character {
                '\n' => {
                    self.line += 1;
                    self.characters.next();
                }
                '#' => self.skip_line(),
                '/' => self.skip_comment()?,
                space if space.is_whitespace() => {
                    self.characters.next();
                }
                _ => return Ok(()),
            }
        }
        Ok(())
    }

    fn skip_line(&mut self) {
        while self.characters.next_if(|character| *character != '\n').is_some() {}
    }

    fn skip_comment(&mut self) -> Result<(), SyntaxError> {
        let line = self.line;
        self.characters.next();
        match self.characters.next() {
            Some('/') => self.skip_line(),
            Some('*') => {
                let mut is_star = false;
                loop {
                    match self.characters.next() {
                        Some('/') if is_star => break,
                        None => return Err(unexpected(line, "the end of the comment", None)),
                        character => {
                            self.line += usize::from(character == Some('\n'));
                            is_star = character == Some('*');
                        }
                    }
                }
            }
            other => return Err(unexpected(line, "a comment", other)),
        }
        Ok(())
    }

    fn quoted(&mut self) -> Result<String, SyntaxError> {
        let line = self.line;
        self.characters.next();
        let mut text = String::new();
        loop {
            match self.characters.next() {
                Some('"') => return Ok(text),
                Some('\\') => text.push(self.escaped()?),
                Some('$' | '%') if self.characters.peek() == Some(&'{') => {
                    return Err(unexpected(line, "a string without a template", Some('{')));
                }
                Some(character) if !character.is_control() => text.push(character),
                other => return Err(unexpected(line, "the end of the string on its line", other)),
            }
        }
    }

    fn escaped(&mut self) -> Result<char, SyntaxError> {
        let line = self.line;
        match self.characters.next() {
            Some(same @ ('"' | '\\' | '/')) => Ok(same),
            Some('n') => Ok('\n'),
            Some('t') => Ok('\t'),
            Some('r') => Ok('\r'),
            Some('u') => {
                let digits: String = self.characters.by_ref().take(4).collect();
                let is_hex = digits.len() == 4 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                let code = u32::from_str_radix(&digits, 16).ok().filter(|_| is_hex);
                code.and_then(char::from_u32).ok_or_else(|| unexpected(line, "four hexadecimal digits", None))
            }
            other => Err(unexpected(line, "an escape sequence", other)),
        }
    }
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '_' | '-' | '.')
}

fn unexpected(line: usize, expected: &'static str, found: Option<char>) -> SyntaxError {
    let found = found.map_or_else(|| "something else".into(), |found| format!("`{}`", found.escape_debug()));
    SyntaxError::Unexpected { line, expected, found }
}

#[cfg(test)]
mod tests;
