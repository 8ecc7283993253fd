//! `carrack config validate|show`: what a server or agent would run with, without running it.

use clap::{Args, Subcommand};

use super::{
    error::CliError,
    output::{Format, Output},
    settings::{ConfigArgs, ServerFlags},
};
use crate::config::{Loaded, Purpose, agent::load_agent, key::AGENT};

/// Looks at a configuration without starting what it is for.
#[derive(Clone, Debug, Subcommand)]
pub enum ConfigCommand {
    /// Check file, environment and flags, and tell every problem
    Validate(ConfigPurposeArgs),
    /// Print the configuration in effect, with the source of each value
    Show(ConfigPurposeArgs),
}

/// A configuration and what it is for.
#[derive(Clone, Debug, Args)]
pub struct ConfigPurposeArgs {
    /// Check what a first server needs too
    #[arg(long, conflicts_with = "agent")]
    pub bootstrap: bool,
    /// Of an agent, not of a server
    #[arg(long)]
    pub agent: bool,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs<ServerFlags>,
}

/// What to do with a configuration.
#[derive(Clone, Copy)]
enum Look {
    Validate,
    Show,
}

impl ConfigCommand {
    /// Runs the command.
    pub fn run(&self, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Validate(arguments) => arguments.look(Look::Validate, output),
            Self::Show(arguments) => arguments.look(Look::Show, output),
        }
    }
}

impl ConfigPurposeArgs {
    fn look(&self, look: Look, output: &mut Output<'_>) -> Result<(), CliError> {
        if self.agent {
            self.refuse_flags_of_servers()?;
            return look.at(&load_agent(&self.config.layers())?, output);
        }
        let purpose = if self.bootstrap { Purpose::Bootstrap } else { Purpose::Start };
        look.at(&self.config.load(purpose)?, output)
    }

    fn refuse_flags_of_servers(&self) -> Result<(), CliError> {
        match self.config.settings.0.keys().find(|name| AGENT.find(name).is_none()) {
            None => Ok(()),
            Some(name) => Err(CliError::usage(
                format!("{name} is a setting of servers alone"),
                format!("leave it out, or leave out --agent; `{}` prints what an agent can be told", AGENT.show),
            )),
        }
    }
}

impl Look {
    fn at<C>(self, loaded: &Loaded<C>, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Validate => validate(loaded, output),
            Self::Show => match output.format() {
                Format::Json => output.json(&loaded.to_table()),
                Format::Table => output.text(&loaded.to_toml()),
            },
        }
    }
}

fn validate<C>(loaded: &Loaded<C>, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "Valid": true, "Warnings": loaded.warnings }));
    }
    for warning in &loaded.warnings {
        output.line(&format!("warning: {warning}"))?;
    }
    output.line("the configuration is valid")
}
