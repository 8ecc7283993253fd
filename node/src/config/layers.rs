//! File, environment and flags, laid over each other: a flag beats a variable, a variable beats the file, the file beats the default.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
};

use super::{
    key::{Key, Schema, VARIABLE_PREFIX, is_known_variable},
    problem::{ConfigError, Problem, Source},
};

/// The longest configuration file: a complete one with comments has about 4 KiB.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// Where settings come from.
#[derive(Clone, Debug, Default)]
pub struct Layers {
    /// The configuration file, if one is named.
    pub file: Option<PathBuf>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The flags that were given, by the name of their key.
    pub flags: BTreeMap<&'static str, String>,
}

impl Layers {
    /// The process's own environment, a file and flags.
    pub fn of_process(file: Option<PathBuf>, flags: BTreeMap<&'static str, String>) -> Self {
        let text = |(name, value): (std::ffi::OsString, std::ffi::OsString)| {
            Some((name.into_string().ok()?, value.to_string_lossy().into_owned()))
        };
        Self { file, environment: std::env::vars_os().filter_map(text).collect(), flags }
    }
}

/// A value as text, with its source.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Setting {
    pub(super) value: String,
    pub(super) source: Source,
}

/// Every value that was set, the problems met in reading them, and what looks like a mistake but is none for certain.
#[derive(Debug)]
pub(super) struct Overlay {
    pub(super) schema: &'static Schema,
    pub(super) settings: BTreeMap<&'static str, Setting>,
    pub(super) problems: Vec<Problem>,
    pub(super) warnings: Vec<String>,
}

impl Overlay {
    /// Reads all three layers.
    pub(super) fn read(layers: &Layers, schema: &'static Schema) -> Result<Self, ConfigError> {
        let (settings, problems, warnings) = (BTreeMap::new(), Vec::new(), Vec::new());
        let mut overlay = Self { schema, settings, problems, warnings };
        if let Some(path) = &layers.file {
            overlay.add_table("", &read_table(path)?);
        }
        for key in schema.keys {
            let variable = schema.variable(key);
            if let Some(value) = layers.environment.get(&variable) {
                overlay.set(key, value.clone(), Source::Variable(variable));
            }
            if let Some(value) = layers.flags.get(key.name) {
                overlay.set(key, value.clone(), Source::Flag(key.flag));
            }
        }
        overlay.warn_of_unknown_variables(&layers.environment);
        Ok(overlay)
    }

    fn set(&mut self, key: &Key, value: String, source: Source) {
        self.settings.insert(key.name, Setting { value, source });
    }

    fn add_table(&mut self, prefix: &str, table: &toml::Table) {
        for (name, value) in table {
            let name = format!("{prefix}{name}");
            match (self.schema.find(&name), value) {
                (None, toml::Value::Table(inner)) if prefix.is_empty() && self.schema.is_table(&name) => {
                    self.add_table(&format!("{name}."), inner);
                }
                (None, _) => self.add_unknown(name, value),
                (Some(key), value) => match scalar(value) {
                    Some(text) => self.set(key, text, Source::File),
                    None => self.add_problem(name, value, "a text, a whole number, true or false is wanted", key),
                },
            }
        }
    }

    fn add_problem(&mut self, key: String, value: &toml::Value, why: &str, wanted: &Key) {
        let remedy = format!("write {} = \"{}\"", wanted.name, wanted.form);
        let value = Some(value.to_string());
        self.problems.push(Problem { key, value, source: Source::File, why: why.into(), remedy });
    }

    fn add_unknown(&mut self, key: String, value: &toml::Value) {
        let remedy = match self.schema.closest(&key) {
            Some(closest) => format!("did you mean {}?", closest.name),
            None => format!("remove it; `{}` prints every setting", self.schema.show),
        };
        let value = Some(scalar(value).unwrap_or_else(|| value.to_string()));
        self.problems.push(Problem {
            key,
            value,
            source: Source::File,
            why: "there is no such setting".into(),
            remedy,
        });
    }

    /// Only a warning: an orchestrator sets variables of this form for a service that is named carrack.
    fn warn_of_unknown_variables(&mut self, environment: &BTreeMap<String, String>) {
        let ours = environment.keys().filter(|name| name.starts_with(VARIABLE_PREFIX));
        let unknown = ours.filter(|name| !is_known_variable(name));
        self.warnings.extend(unknown.map(|name| format!("{name} is set, but there is no such setting: it is ignored")));
    }
}

fn scalar(value: &toml::Value) -> Option<String> {
    match value {
        toml::Value::String(text) => Some(text.clone()),
        toml::Value::Integer(number) => Some(number.to_string()),
        toml::Value::Boolean(flag) => Some(flag.to_string()),
        _ => None,
    }
}

fn read_table(path: &Path) -> Result<toml::Table, ConfigError> {
    let unreadable = |source| ConfigError::Unreadable { path: path.into(), source };
    let file = fs::File::open(path).map_err(unreadable)?;
    let bytes = file.metadata().map_err(unreadable)?.len();
    if bytes > FILE_BYTES_MAX {
        return Err(ConfigError::TooLong { path: path.into(), bytes, bytes_max: FILE_BYTES_MAX });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX).read_to_string(&mut text).map_err(unreadable)?;
    text.parse().map_err(|source| ConfigError::Syntax { path: path.into(), source: Box::new(source) })
}
