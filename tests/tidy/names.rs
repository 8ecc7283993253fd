//! Names that say nothing: a file or item must say what it is, not that it is shared, assorted or in charge.

use super::scan::{Token, tokens};

/// Names that nothing may have.
const BANNED: [&str; 6] = ["util", "utils", "common", "misc", "helper", "helpers"];
/// Parts of names that nothing may have. `common` is not among them: X.509 has common names.
const BANNED_PARTS: [&str; 5] = ["utils", "misc", "helper", "helpers", "manager"];
/// Words after which the name of an item stands.
const DECLARERS: [&str; 9] = ["fn", "mod", "struct", "enum", "trait", "type", "const", "static", "union"];

/// Banned names among the parts of a path.
pub(crate) fn in_path(path: &str) -> Vec<String> {
    let parts = path.split('/').filter_map(|part| part.split('.').next());
    let banned = parts.filter(|part| is_banned(part));
    banned.map(|part| format!("{path}: `{part}` is a name that says nothing")).collect()
}

/// Banned names among the items that a source text declares.
pub(crate) fn in_source(path: &str, source: &str) -> Vec<String> {
    let tokens = tokens(source);
    let mut implementations = Implementations::default();
    let mut violations = Vec::new();
    for (position, token) in tokens.iter().enumerate() {
        implementations.see(&tokens, position);
        let Some(name) = tokens.get(position + 1).filter(|_| DECLARERS.contains(&token.text)) else { continue };
        if is_banned(name.text) {
            violations.push(format!("{path}:{}: `{}` is a name that says nothing", name.line, name.text));
        }
        // A foreign trait's names are not ours to choose.
        if token.text == "fn" && name.text.starts_with("get_") && !implementations.is_inside_a_trait_s() {
            violations.push(format!("{path}:{}: `{}`: leave out `get_`", name.line, name.text));
        }
    }
    violations
}

fn is_banned(name: &str) -> bool {
    let parts = snake_case(name);
    BANNED.contains(&parts.as_str()) || parts.split('_').any(|part| BANNED_PARTS.contains(&part))
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for (position, character) in name.char_indices() {
        let is_start = character.is_uppercase() && position > 0 && !snake.ends_with('_');
        let is_after_small = name[..position].ends_with(|before: char| before.is_lowercase());
        if is_start && is_after_small {
            snake.push('_');
        }
        snake.extend(character.to_lowercase());
    }
    snake
}

/// Tells whether a token stands inside an `impl Trait for Type` block.
#[derive(Default)]
struct Implementations {
    depth: usize,
    /// Set between `impl` and its `{`: whether `for` was seen.
    header: Option<bool>,
    /// The depths at which blocks of traits opened.
    open: Vec<usize>,
}

impl Implementations {
    fn see(&mut self, tokens: &[Token<'_>], position: usize) {
        match (tokens[position].text, &mut self.header) {
            ("impl", header) if is_item_start(tokens, position) => *header = Some(false),
            // `for<'a>` is not the `for` between trait and type.
            ("for", Some(is_trait)) if tokens.get(position + 1).is_none_or(|next| next.text != "<") => *is_trait = true,
            ("{", header) => {
                self.depth += 1;
                if header.take() == Some(true) {
                    self.open.push(self.depth);
                }
            }
            ("}", _) => {
                self.open.retain(|depth| *depth != self.depth);
                self.depth = self.depth.saturating_sub(1);
            }
            _ => {}
        }
    }

    fn is_inside_a_trait_s(&self) -> bool {
        !self.open.is_empty()
    }
}

/// An `impl` that opens a block, not `impl Trait` as a type.
fn is_item_start(tokens: &[Token<'_>], position: usize) -> bool {
    let before = position.checked_sub(1).map(|before| tokens[before].text);
    before.is_none_or(|before| ["}", ";", "]", "{", ")", "unsafe"].contains(&before))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn banned_names_are_seen() {
        for source in [
            "mod utils;",
            "mod common { }",
            "pub(crate) struct KeyManager;",
            "enum LeafHelper { A }",
            "fn misc() {}",
            "trait RootManagerLike {}",
            "async fn get_leaf() {}",
            "impl Store { pub fn get_leaf(&self) {} }",
            "impl A for B { fn a() {} } impl B { fn get_leaf() {} }",
        ] {
            assert_eq!(in_source("a.rs", source).len(), 1, "{source}");
        }
        assert_eq!(in_path("node/src/utils.rs").len(), 1);
        assert_eq!(in_path("node/src/common/leaf.rs").len(), 1);
    }

    #[test]
    fn names_of_others_and_mentions_pass() {
        for source in [
            "use hyper_util::rt; fn leaf() { tower::util::service_fn(a) }",
            "fn common_name() {}",
            "fn get() {} // fn get_leaf, the manager",
            "impl RaftLogStorage<T> for Log { async fn get_log_state(&mut self) { if a { } } fn get_log_reader() {} }",
            "impl<F> A for B where F: for<'a> Fn(&'a str) { fn get_a() {} }",
        ] {
            assert_eq!(in_source("a.rs", source), Vec::<String>::new(), "{source}");
        }
        assert_eq!(in_path("node/src/api/http.rs"), Vec::<String>::new());
    }
}
