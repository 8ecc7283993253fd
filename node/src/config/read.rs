//! Settings as text become typed values; each one that cannot be used adds a problem, and reading goes on with the next.

use std::{collections::BTreeMap, fmt::Display, time::Duration};

use super::{
    duration,
    key::{Key, Schema},
    layers::Setting,
    problem::{Problem, Source},
};

/// Reads the values of an overlay and gathers the problems.
pub(super) struct Reader {
    schema: &'static Schema,
    settings: BTreeMap<&'static str, Setting>,
    pub(super) problems: Vec<Problem>,
}

impl Reader {
    pub(super) fn new(
        schema: &'static Schema,
        settings: BTreeMap<&'static str, Setting>,
        problems: Vec<Problem>,
    ) -> Self {
        Self { schema, settings, problems }
    }

    /// The text of a setting, or of its default; `None` if both are empty.
    pub(super) fn text(&self, name: &'static str) -> Option<&str> {
        let given = self.settings.get(name).map(|setting| setting.value.as_str());
        Some(given.unwrap_or(self.known(name).default)).filter(|text| !text.is_empty())
    }

    /// Reads a setting that has a value; a value that cannot be read is a problem.
    pub(super) fn read<T, E: Display>(
        &mut self,
        name: &'static str,
        remedy: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        match read(self.text(name)?) {
            Ok(value) => Some(value),
            Err(error) => {
                self.refuse(name, &error.to_string(), remedy);
                None
            }
        }
    }

    /// Reads a setting that must have a value.
    pub(super) fn require<T, E: Display>(
        &mut self,
        name: &'static str,
        remedy: &str,
        read: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        if self.text(name).is_none() {
            self.refuse(name, "it has no default", remedy);
        }
        self.read(name, remedy, read)
    }

    /// Reads a span of time.
    pub(super) fn duration(&mut self, name: &'static str) -> Option<Duration> {
        self.read(name, "write it like 72h, 1h30m or 150ms", duration::parse)
    }

    /// Reads a whole number between bounds, both included.
    pub(super) fn number(&mut self, name: &'static str, least: u64, most: u64) -> Option<u64> {
        let read = |text: &str| match text.parse::<u64>() {
            Ok(number) if (least..=most).contains(&number) => Ok(number),
            _ => Err(format!("it is no whole number from {least} to {most}")),
        };
        self.read(name, &format!("write a whole number from {least} to {most}"), read)
    }

    /// Reads a switch.
    pub(super) fn switch(&mut self, name: &'static str) -> Option<bool> {
        self.read(name, "write true or false", |text| match text {
            "true" => Ok(true),
            "false" => Ok(false),
            _ => Err("it is neither true nor false"),
        })
    }

    /// Adds a problem about a setting.
    pub(super) fn refuse(&mut self, name: &'static str, why: &str, remedy: &str) {
        let setting = self.settings.get(name);
        let default = Some(self.known(name).default).filter(|default| !default.is_empty());
        self.problems.push(Problem {
            key: name.into(),
            value: setting.map(|setting| setting.value.as_str()).or(default).map(str::to_owned),
            source: self.source(name),
            why: why.into(),
            remedy: remedy.into(),
        });
    }

    /// Where the value of a setting comes from.
    pub(super) fn source(&self, name: &str) -> Source {
        self.settings.get(name).map_or(Source::Default, |setting| setting.source.clone())
    }

    /// # Panics
    /// Panics if no such setting exists: names are written in this module only, and each is read in every test that loads.
    fn known(&self, name: &'static str) -> &'static Key {
        self.schema.find(name).expect("the name of a setting is in the list of keys")
    }
}
