//! The settings of a server as flags: one for each key of the configuration, beside `--config`.

use std::{collections::BTreeMap, path::PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use crate::config::{ConfigError, Layers, Loaded, Purpose, key::KEYS, load};

/// A configuration file and the flags that beat it.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// Configuration file in TOML; variables and flags beat it
    #[arg(long, value_name = "FILE", env = "CARRACK_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// The settings that were given as flags.
    #[command(flatten)]
    pub settings: SettingFlags,
}

impl ConfigArgs {
    /// The configuration of file, environment and flags.
    pub fn load(&self, purpose: Purpose) -> Result<Loaded, ConfigError> {
        load(&Layers::of_process(self.config.clone(), self.settings.given.clone()), purpose)
    }
}

/// The settings that were given as flags, by key.
#[derive(Clone, Debug, Default)]
pub struct SettingFlags {
    /// The values as text.
    pub given: BTreeMap<&'static str, String>,
}

impl Args for SettingFlags {
    fn augment_args(command: Command) -> Command {
        KEYS.iter().fold(command, |command, key| {
            let default = match key.default {
                "" => String::new(),
                default => format!("; default: {default}"),
            };
            let argument = Arg::new(key.name)
                .long(key.flag)
                .help(format!("{} [env: {}{default}]", key.about, key.variable()))
                .help_heading("Settings");
            command.arg(match key.is_switch() {
                true => argument.action(ArgAction::SetTrue),
                false => argument.value_name(key.form).action(ArgAction::Set),
            })
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl FromArgMatches for SettingFlags {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut flags = Self::default();
        flags.update_from_arg_matches(matches)?;
        Ok(flags)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for key in KEYS {
            let value = match key.is_switch() {
                true => matches.get_flag(key.name).then(|| "true".to_owned()),
                false => matches.get_one::<String>(key.name).cloned(),
            };
            if let Some(value) = value {
                self.given.insert(key.name, value);
            }
        }
        Ok(())
    }
}
