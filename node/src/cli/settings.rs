//! The settings of a server or agent as flags: one for each key of its configuration, beside `--config`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{
    ConfigError, Layers, Loaded, Purpose,
    agent::{AgentConfig, load_agent},
    key::{AGENT, SERVER, Schema},
    load,
};

/// A configuration file and the flags that beat it. `F`: the flags.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs<F: Args> {
    /// Configuration file in TOML; variables and flags beat it
    #[arg(long, value_name = "FILE", env = "CARRACK_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The settings that were given as flags.
    #[command(flatten)]
    pub settings: F,
}

impl ConfigArgs<ServerFlags> {
    /// The configuration of file, environment and flags.
    pub fn load(&self, purpose: Purpose) -> Result<Loaded, ConfigError> {
        load(&self.layers(), purpose)
    }

    /// What the flags say, with file and environment.
    pub fn layers(&self) -> Layers {
        Layers::of_process(self.config.clone(), self.settings.0.clone())
    }
}

impl ConfigArgs<AgentFlags> {
    /// The configuration of file, environment and flags.
    pub fn load(&self) -> Result<Loaded<AgentConfig>, ConfigError> {
        load_agent(&Layers::of_process(self.config.clone(), self.settings.0.clone()))
    }
}

/// The settings of a server that were given as flags: the values as text, by key.
#[derive(Clone, Debug, Default)]
pub struct ServerFlags(pub BTreeMap<&'static str, String>);

/// The same of an agent.
#[derive(Clone, Debug, Default)]
pub struct AgentFlags(pub BTreeMap<&'static str, String>);

macro_rules! flags_of {
    ($flags:ident, $schema:expr) => {
        impl Args for $flags {
            fn augment_args(command: Command) -> Command {
                augment(command, $schema)
            }

            fn augment_args_for_update(command: Command) -> Command {
                augment(command, $schema)
            }
        }

        impl FromArgMatches for $flags {
            fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
                Ok(Self(given(matches, $schema)))
            }

            fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
                self.0.extend(given(matches, $schema));
                Ok(())
            }
        }
    };
}

flags_of!(ServerFlags, &SERVER);
flags_of!(AgentFlags, &AGENT);

fn augment(command: Command, schema: &Schema) -> Command {
    schema.keys.iter().fold(command, |command, key| {
        let default = match key.default {
            "" => String::new(),
            default => format!("; default: {default}"),
        };
        let argument = Arg::new(key.name)
            .long(key.flag)
            .help(format!("{} [env: {}{default}]", key.about, schema.variable(key)))
            .help_heading("Settings");
        command.arg(match key.is_switch() {
            true => argument.action(ArgAction::SetTrue),
            false => argument.value_name(key.form).action(ArgAction::Set),
        })
    })
}

fn given(matches: &ArgMatches, schema: &Schema) -> BTreeMap<&'static str, String> {
    let value = |key: &'static crate::config::key::Key| match key.is_switch() {
        true => matches.get_flag(key.name).then(|| "true".to_owned()),
        false => matches.get_one::<String>(key.name).cloned(),
    };
    schema.keys.iter().filter_map(|key| Some((key.name, value(key)?))).collect()
}
