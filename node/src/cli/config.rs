//! `carrack config validate|show`: what a server would run with, without running it.

use clap::{Args, Subcommand};

use super::{
    error::CliError,
    output::{Format, Output},
    settings::ConfigArgs,
};
use crate::config::{Loaded, Purpose};

/// Looks at a server's configuration without starting it.
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
    #[arg(long)]
    pub bootstrap: bool,
    /// The configuration.
    #[command(flatten)]
    pub config: ConfigArgs,
}

impl ConfigPurposeArgs {
    fn load(&self) -> Result<Loaded, CliError> {
        let purpose = if self.bootstrap { Purpose::Bootstrap } else { Purpose::Start };
        Ok(self.config.load(purpose)?)
    }
}

impl ConfigCommand {
    /// Runs the command.
    pub fn run(&self, output: &mut Output<'_>) -> Result<(), CliError> {
        match self {
            Self::Validate(arguments) => validate(&arguments.load()?, output),
            Self::Show(arguments) => show(&arguments.load()?, output),
        }
    }
}

fn validate(loaded: &Loaded, output: &mut Output<'_>) -> Result<(), CliError> {
    if output.format() == Format::Json {
        return output.json(&serde_json::json!({ "Valid": true, "Warnings": loaded.warnings }));
    }
    for warning in &loaded.warnings {
        output.line(&format!("warning: {warning}"))?;
    }
    output.line("the configuration is valid")
}

fn show(loaded: &Loaded, output: &mut Output<'_>) -> Result<(), CliError> {
    match output.format() {
        Format::Json => output.json(&loaded.to_table()),
        Format::Table => output.text(&loaded.to_toml()),
    }
}
