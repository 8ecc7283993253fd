//! JSON objects in request bodies, read field by field: case and underscores do not matter (as in Go and HCL), an unknown
//! field is refused, and no error repeats a value: it may be a secret.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value};

use super::{error::HttpError, span};

/// The fields of one object that were not taken yet.
#[derive(Debug)]
pub struct Fields {
    what: &'static str,
    left: BTreeMap<String, (String, Value)>,
    known: Vec<&'static str>,
}

impl Fields {
    /// Reads a body. An empty one counts as `{}`, as with Consul.
    pub fn of_body(what: &'static str, body: &[u8]) -> Result<Self, HttpError> {
        if body.trim_ascii().is_empty() {
            return Self::of_map(what, Map::new());
        }
        let value = serde_json::from_slice(body).map_err(|error| {
            let (line, column) = (error.line(), error.column());
            HttpError::BadBody(format!("the body is not JSON (line {line}, column {column})"))
        })?;
        Self::of_value(what, value)
    }

    /// Reads a value, which must be an object.
    pub fn of_value(what: &'static str, value: Value) -> Result<Self, HttpError> {
        match value {
            Value::Object(map) => Self::of_map(what, map),
            Value::Null => Self::of_map(what, Map::new()),
            _ => Err(HttpError::BadBody(format!("{what} must be an object"))),
        }
    }

    fn of_map(what: &'static str, map: Map<String, Value>) -> Result<Self, HttpError> {
        let mut left = BTreeMap::new();
        for (name, value) in map {
            if left.insert(normal(&name), (name.clone(), value)).is_some() {
                let name = name.escape_default();
                return Err(HttpError::BadBody(format!("{what} has the field `{name}` twice")));
            }
        }
        Ok(Self { what, left, known: Vec::new() })
    }

    /// Takes a field; `null` counts as absent.
    pub fn take(&mut self, name: &'static str) -> Option<Value> {
        self.known.push(name);
        self.left.remove(&normal(name)).map(|(_, value)| value).filter(|value| !value.is_null())
    }

    /// Takes a text.
    pub fn text(&mut self, name: &'static str) -> Result<Option<String>, HttpError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "a string")),
        }
    }

    /// Takes a text; an empty one counts as absent, as Go's clients send it.
    pub fn some_text(&mut self, name: &'static str) -> Result<Option<String>, HttpError> {
        Ok(self.text(name)?.filter(|text| !text.is_empty()))
    }

    /// Takes yes or no; the words in a string count, as HCL's clients send them.
    pub fn flag(&mut self, name: &'static str) -> Result<Option<bool>, HttpError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(Value::String(text)) if text.is_empty() => Ok(None),
            Some(Value::String(text)) => text.parse().map(Some).map_err(|_| self.wrong(name, "true or false")),
            Some(_) => Err(self.wrong(name, "true or false")),
        }
    }

    /// Takes a whole number that is not negative; digits in a string count, as HCL's clients send them.
    pub fn number(&mut self, name: &'static str) -> Result<Option<u32>, HttpError> {
        let number = match self.take(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => whole(&number),
            Some(Value::String(text)) => text.parse().ok(),
            Some(_) => None,
        };
        number.map(Some).ok_or_else(|| self.wrong(name, "a whole number from 0 to 4294967295"))
    }

    /// Takes an index of the log; zero counts as absent, as Go's clients send it.
    pub fn index(&mut self, name: &'static str) -> Result<Option<u64>, HttpError> {
        let index = match self.take(name) {
            None => return Ok(None),
            Some(Value::Number(number)) => number.as_u64(),
            Some(_) => None,
        };
        let index = index.ok_or_else(|| self.wrong(name, "an index as it was read"))?;
        Ok((index > 0).then_some(index))
    }

    /// Takes a span: text such as `72h`, or Go's nanoseconds. Empty and zero count as absent.
    pub fn span(&mut self, name: &'static str) -> Result<Option<Duration>, HttpError> {
        Ok(self.span_or_zero(name)?.filter(|span| !span.is_zero()))
    }

    /// The same, where zero means something.
    pub fn span_or_zero(&mut self, name: &'static str) -> Result<Option<Duration>, HttpError> {
        let span = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) => span::parse(&text),
            Some(Value::Number(number)) => number.as_u64().map(Duration::from_nanos),
            Some(_) => None,
        };
        span.map(Some).ok_or_else(|| self.wrong(name, "a span of time such as 72h or 1h30m"))
    }

    /// Takes a list.
    pub fn list(&mut self, name: &'static str) -> Result<Vec<Value>, HttpError> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => Ok(list),
            Some(_) => Err(self.wrong(name, "a list")),
        }
    }

    /// Takes a list of texts.
    pub fn texts(&mut self, name: &'static str) -> Result<Vec<String>, HttpError> {
        let texts = self.list(name)?.into_iter().map(|value| match value {
            Value::String(text) => Some(text),
            _ => None,
        });
        texts.collect::<Option<_>>().ok_or_else(|| self.wrong(name, "a list of strings"))
    }

    /// Drops fields that clients send back as they read them.
    pub fn ignore(&mut self, names: &[&'static str]) {
        for name in names {
            self.take(name);
        }
    }

    /// Refuses a field of Consul's that this version does not have, unless it says nothing.
    pub fn refuse_unless_empty(&mut self, name: &'static str) -> Result<(), HttpError> {
        let says_nothing = match self.take(name) {
            None | Some(Value::Bool(false)) => true,
            Some(Value::String(text)) => text.is_empty() || text == "default",
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(_) => false,
        };
        let text = || format!("{} has `{name}`, which is not offered here: leave it out", self.what);
        if says_nothing { Ok(()) } else { Err(HttpError::NotImplemented(text())) }
    }

    /// Refuses whatever was not taken.
    pub fn finish(self) -> Result<(), HttpError> {
        let Some((name, _)) = self.left.into_values().next() else { return Ok(()) };
        let field = name.chars().take(64).collect::<String>().escape_default().to_string();
        Err(HttpError::UnknownField { what: self.what, field, known: self.known.join(", ") })
    }

    fn wrong(&self, name: &str, form: &str) -> HttpError {
        HttpError::BadBody(format!("the field `{name}` of {} must be {form}", self.what))
    }
}

fn normal(name: &str) -> String {
    name.chars().filter(|character| *character != '_').flat_map(char::to_lowercase).collect()
}

/// Go's clients and HCL write whole numbers as `256` or `256.0`.
fn whole(number: &serde_json::Number) -> Option<u32> {
    if let Some(number) = number.as_u64() {
        return u32::try_from(number).ok();
    }
    let text = number.as_f64()?.to_string();
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> Fields {
        Fields::of_body("a token", body.as_bytes()).unwrap()
    }

    #[test]
    fn names_are_read_without_case_and_underscores() {
        let mut fields = fields(r#"{"leaf_cert_ttl":"72h","PRIVATEKEYBITS":"256","name":"a","Local":true}"#);
        assert_eq!(fields.span("LeafCertTTL"), Ok(Some(Duration::from_secs(259_200))));
        assert_eq!(fields.number("PrivateKeyBits"), Ok(Some(256)));
        assert_eq!(fields.text("Name"), Ok(Some("a".into())));
        assert_eq!(fields.flag("Local"), Ok(Some(true)));
        assert_eq!(fields.finish(), Ok(()));
    }

    #[test]
    fn an_unknown_field_is_refused_with_the_known_ones() {
        let mut fields = fields(r#"{"Description":"","Polices":[]}"#);
        fields.text("Description").unwrap();
        fields.ignore(&["Hash"]);
        let refusal = fields.finish().unwrap_err().to_string();
        assert_eq!(
            refusal,
            "Request decode failed: a token has the unknown field `Polices`; known are Description, Hash"
        );
    }

    #[test]
    fn numbers_are_whole_and_in_bounds() {
        for (body, number) in [
            ("256", Some(256)),
            ("256.0", Some(256)),
            ("0", Some(0)),
            ("-1", None),
            ("1.5", None),
            ("1e30", None),
            ("4294967296", None),
        ] {
            let read = fields(&format!(r#"{{"A":{body}}}"#)).number("A");
            assert_eq!(read.ok(), number.map(Some), "{body}");
        }
    }

    #[test]
    fn no_error_repeats_a_value() {
        let secret = "2f1b0c5e-secret";
        for body in [
            format!(r#"{{"SecretID":["{secret}"]}}"#),
            format!(r#"{{"SecretID":"{secret}"#),
            format!(r#"["{secret}"]"#),
        ] {
            let error = Fields::of_body("a token", body.as_bytes()).and_then(|mut fields| fields.text("SecretID"));
            assert!(!error.unwrap_err().to_string().contains(secret), "{body}");
        }
    }

    #[test]
    fn a_field_given_twice_in_two_spellings_is_refused() {
        assert!(Fields::of_body("a token", br#"{"SecretID":"a","secret_id":"b"}"#).is_err());
    }

    #[test]
    fn what_this_version_does_not_have_is_refused_unless_it_is_empty() {
        for body in [r#"{"Roles":null}"#, r#"{"Roles":[]}"#, r#"{"Roles":""}"#, "{}"] {
            assert_eq!(fields(body).refuse_unless_empty("Roles"), Ok(()), "{body}");
        }
        let refused = fields(r#"{"Roles":[{"Name":"a"}]}"#).refuse_unless_empty("Roles");
        assert!(matches!(refused, Err(HttpError::NotImplemented(_))));
    }

    #[test]
    fn deep_bodies_are_refused() {
        let deep = "[".repeat(100_000);
        assert!(Fields::of_body("a token", deep.as_bytes()).is_err());
    }
}
