//! What is read, what is refused, and that another parser agrees where both dialects are the same.

use hcl::Value as Other;
use proptest::prelude::*;

use super::*;

fn refusal(text: &str) -> String {
    parse(text).unwrap_err().to_string()
}

#[test]
fn items_comments_and_escapes_are_read() {
    let text = "# one\nservice \"a\\\"b\\u0041\" { // two\n  policy = \"read\" /* three\n*/ intentions = \"deny\", }\nacl = \"write\"";
    let items = parse(text).unwrap();
    assert_eq!(items.len(), 2);
    assert_eq!(items[0].keys[1], Text { text: "a\"bA".into(), line: 2 });
    let Value::Object(settings) = &items[0].value else { panic!("a block") };
    assert_eq!(settings[1].keys[0].line, 4);
    assert_eq!(items[1].keys[0].line, 5);
}

#[test]
fn refusals_name_the_line() {
    assert_eq!(refusal("a = \"b\"\nc"), "line 2: expected `=` or `{`, found the end of the text");
    assert_eq!(refusal("a = b"), "line 1: expected a string in quotes or `{`, found `b`");
    assert_eq!(refusal("\n\na = 1"), "line 3: expected a string in quotes or `{`, found `1`");
    assert_eq!(refusal("a = \"${b}\""), "line 1: expected a string without a template, found `{`");
    assert_eq!(refusal("a = \"x\ny\""), "line 1: expected the end of the string on its line, found `\\n`");
    assert_eq!(refusal("{} x"), "line 1: expected the end of the text, found `x`");
    for bad in [
        "{",
        "a {",
        "a = [",
        "a = \"",
        "/* x",
        "/",
        "a = <<EOT\nx\nEOT",
        "= \"a\"",
        "{ , }",
        "a = \"\\x\"",
        "a = \"\\uZZZZ\"",
    ] {
        assert!(parse(bad).is_err(), "{bad}");
    }
}

#[test]
fn nesting_is_bounded() {
    for open in ["[", "{a=", "{a "] {
        let text = format!("a = {}", open.repeat(10_000));
        assert!(matches!(parse(&text), Err(SyntaxError::TooDeep { .. } | SyntaxError::Unexpected { .. })), "{open}");
    }
    assert_eq!(refusal(&format!("a = {}", "[".repeat(9))), "line 1: values are nested deeper than 8");
}

/// The same items as JSON-like values: labels become nested maps.
fn plain(items: &[Item]) -> hcl::Map<String, Other> {
    items.iter().fold(hcl::Map::new(), |mut map, item| {
        let value = match &item.value {
            Value::Text(text) => Other::from(text.text.clone()),
            Value::Object(items) => Other::from(plain(items)),
            Value::List(_) => panic!("not generated"),
        };
        let (first, labels) = item.keys.split_first().unwrap();
        let value = labels
            .iter()
            .rev()
            .fold(value, |value, label| Other::from(hcl::Map::from_iter([(label.text.clone(), value)])));
        map.insert(first.text.clone(), value);
        map
    })
}

proptest! {
    #[test]
    fn an_hcl_2_parser_reads_the_same(
        rules in prop::collection::btree_map("[a-z_]{1,8}", ("[a-zA-Z0-9 ./*-]{0,12}", "[a-z]{1,6}", any::<bool>()), 0..6),
    ) {
        let rules = rules.iter().map(|(key, (label, value, is_block))| match is_block {
            true => format!("{key} \"{label}\" {{\n  policy = \"{value}\" # why\n}}\n"),
            false => format!("{key} = \"{value}\"\n"),
        });
        let text = rules.collect::<String>();
        let other: hcl::Map<String, Other> = hcl::from_str(&text).unwrap();
        prop_assert_eq!(plain(&parse(&text).unwrap()), other);
    }

    #[test]
    fn any_text_is_read_without_a_panic(text in "[a-c\"{}\\[\\]=:,#/*\\\\\n $%]{0,60}", other in any::<String>()) {
        let _ = parse(&text);
        let _ = parse(&other);
    }
}
