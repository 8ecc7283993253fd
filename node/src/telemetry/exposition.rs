//! The OpenMetrics text that a registry writes, read back: the one form in which `prometheus-client` gives its values away.

use std::collections::BTreeMap;

/// One line of a metric.
#[derive(Clone, Debug, PartialEq)]
pub struct Line<'a> {
    /// The metric that it belongs to.
    pub metric: &'a str,
    /// Its type: `gauge`, `counter`, `histogram`, ...
    pub kind: &'a str,
    /// What its name has behind the metric's: `_total`, `_bucket`, ..., or nothing.
    pub suffix: &'a str,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its value.
    pub value: f64,
}

/// Every line with a value. `Err`: the first line that cannot be read.
pub fn lines(text: &str) -> Result<Vec<Line<'_>>, &str> {
    let mut found = Vec::new();
    let (mut metric, mut kind) = ("", "");
    for line in text.lines() {
        match line.strip_prefix("# ") {
            Some(comment) => {
                if let Some((name, of)) = comment.strip_prefix("TYPE ").and_then(|rest| rest.split_once(' ')) {
                    (metric, kind) = (name, of);
                }
            }
            None => found.push(read(line, metric, kind).ok_or(line)?),
        }
    }
    Ok(found)
}

fn read<'a>(line: &'a str, metric: &'a str, kind: &'a str) -> Option<Line<'a>> {
    let rest = line.strip_prefix(metric)?;
    let end = rest.find(['{', ' '])?;
    let (suffix, rest) = rest.split_at(end);
    let (labels, value) = match rest.strip_prefix('{') {
        Some(rest) => labels(rest)?,
        None => (BTreeMap::new(), rest),
    };
    Some(Line { metric, kind, suffix, labels, value: value.trim().parse().ok()? })
}

/// The labels up to the closing brace, and what follows it.
fn labels(mut rest: &str) -> Option<(BTreeMap<String, String>, &str)> {
    let mut labels = BTreeMap::new();
    loop {
        if let Some(rest) = rest.strip_prefix('}') {
            return Some((labels, rest));
        }
        let (name, quoted) = rest.trim_start_matches(',').split_once("=\"")?;
        let (value, after) = unquoted(quoted)?;
        labels.insert(name.to_owned(), value);
        rest = after;
    }
}

/// A value up to its closing quote, and what follows it.
fn unquoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((position, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[position + 1..])),
            '\\' => value.push(match characters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_line_is_read_and_a_broken_one_is_told() {
        let text = "# HELP a_b Some help.\n# TYPE a_b counter\na_b_total{x=\"1\",y=\"a\\\"b\\\\c\\nd, e}\"} 3\n\
                    # TYPE g gauge\ng -1.5\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 2\n# EOF\n";
        let found = lines(text).unwrap();
        let labels = [("x", "1"), ("y", "a\"b\\c\nd, e}")].map(|(name, value)| (name.to_owned(), value.to_owned()));
        let first = Line { metric: "a_b", kind: "counter", suffix: "_total", labels: labels.into(), value: 3.0 };
        assert_eq!(found[0], first);
        assert_eq!((found[1].kind, found[1].suffix, found[1].value), ("gauge", "", -1.5));
        assert_eq!((found[2].suffix, found[2].labels["le"].as_str()), ("_bucket", "+Inf"));
        assert_eq!(lines("# TYPE g gauge\ng{x=\"1} 1"), Err("g{x=\"1} 1"));
        assert_eq!(lines("# TYPE g gauge\ng one"), Err("g one"));
    }
}
