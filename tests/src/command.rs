//! The `carrack` command as a person runs it: arguments and environment in, exit code, output and errors out.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Output, Stdio},
};

use serde_json::Value;

use crate::binary;

/// A `carrack` command in an environment without settings of the machine that runs the tests.
pub struct Carrack {
    command: Command,
}

/// How a command ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The command line, for messages.
    pub line: String,
    /// The exit code; `None`: a signal ended it.
    pub code: Option<i32>,
    /// What it printed.
    pub output: String,
    /// What it printed on standard error.
    pub errors: String,
}

impl Carrack {
    /// The command with these arguments.
    pub fn new(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Self {
        let mut command = Command::new(binary::carrack());
        command.args(arguments).stdin(Stdio::null());
        let foreign = |name: &str| ["CARRACK_", "CONSUL_"].iter().any(|prefix| name.starts_with(prefix));
        for (name, _) in std::env::vars_os() {
            if name.to_str().is_none_or(foreign) {
                command.env_remove(name);
            }
        }
        Self { command }
    }

    /// Sets a variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs in this directory.
    pub fn directory(mut self, directory: &Path) -> Self {
        self.command.current_dir(directory);
        self
    }

    /// Runs it where no file can grow: every write to a disk fails, as on a full one.
    pub fn on_full_disk(self) -> Self {
        let mut command = Command::new("sh");
        // Ignored, so that the write fails and does not end the process.
        command.args(["-c", "trap '' XFSZ; ulimit -f 0; exec \"$0\" \"$@\""]);
        command.arg(self.command.get_program()).args(self.command.get_args()).stdin(Stdio::null());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self { command }
    }

    /// The command itself, for a process that stays.
    pub fn into_command(self) -> Command {
        self.command
    }

    /// Runs it to its end.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    pub fn run(mut self) -> Ended {
        let line = self.line();
        let Output { status, stdout, stderr } = self.command.output().expect("the carrack binary can be started");
        let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
        Ended { line, code: status.code(), output: text(stdout), errors: text(stderr) }
    }

    fn line(&self) -> String {
        let arguments: Vec<_> = self.command.get_args().map(|argument| argument.to_string_lossy()).collect();
        format!("carrack {}", arguments.join(" "))
    }
}

impl Ended {
    /// Its output, if it ended well; else why not.
    pub fn output_or_reason(self) -> Result<String, String> {
        match self.code {
            Some(0) => Ok(self.output),
            code => Err(format!("`{}` ended with {code:?}\n{}{}", self.line, self.output, self.errors)),
        }
    }

    /// Its output.
    ///
    /// # Panics
    /// Panics if it did not end well.
    #[track_caller]
    pub fn expect_output(self) -> String {
        self.output_or_reason().unwrap_or_else(|reason| panic!("{reason}"))
    }

    /// Its output as JSON.
    ///
    /// # Panics
    /// Panics if it did not end well or printed something else.
    #[track_caller]
    pub fn expect_json(self) -> Value {
        let output = self.expect_output();
        serde_json::from_str(&output).unwrap_or_else(|error| panic!("{error} in {output}"))
    }
}
