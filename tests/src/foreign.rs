//! A Python of its own in `target/foreign`, with the clients of `tests/foreign/requirements.txt`, and scripts run in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use anyhow::{Context, bail, ensure};

use crate::binary;

/// The clients and their versions.
const REQUIREMENTS: &str = include_str!("../foreign/requirements.txt");

/// A Python interpreter that has the clients.
pub struct Python {
    executable: PathBuf,
}

impl Python {
    /// Makes the environment and installs the clients, unless an earlier run has done so with the same list.
    pub fn with_clients() -> anyhow::Result<Self> {
        let directory = binary::target_directory().join("foreign");
        fs::create_dir_all(&directory).with_context(|| format!("making {}", directory.display()))?;
        let lock = fs::File::create(directory.join("lock"))?;
        lock.lock().context("waiting for another run that installs the clients")?;
        let python = Self { executable: directory.join("venv/bin/python") };
        let stamp = directory.join("installed.txt");
        if fs::read_to_string(&stamp).is_ok_and(|installed| installed == REQUIREMENTS) && python.executable.exists() {
            return Ok(python);
        }
        python.install(&directory)?;
        fs::write(&stamp, REQUIREMENTS)?;
        Ok(python)
    }

    fn install(&self, directory: &Path) -> anyhow::Result<()> {
        let environment = directory.join("venv");
        let made = Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment).output();
        succeeded("python3 -m venv (Debian: apt install python3-venv)", made?)?;
        let requirements = directory.join("requirements.txt");
        fs::write(&requirements, REQUIREMENTS)?;
        let pip = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"];
        let installed = Command::new(&self.executable).args(pip).arg(&requirements).output();
        succeeded("pip install of the foreign clients", installed?).map(|_| ())
    }

    /// A command that runs this Python.
    pub fn command(&self) -> Command {
        Command::new(&self.executable)
    }

    /// Runs a script's text with arguments and gives its standard output; an exit code other than 0 is an error with its traceback.
    pub fn run(&self, script: &str, arguments: &[&str]) -> anyhow::Result<String> {
        let output = self.command().arg("-c").arg(script).args(arguments).output();
        succeeded("a Python script", output.context("starting Python")?)
    }
}

/// The standard output of a command that ended well.
fn succeeded(what: &str, output: Output) -> anyhow::Result<String> {
    if !output.status.success() {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        bail!("{what} ended with {}\n{out}{err}", output.status);
    }
    ensure!(output.stdout.len() < OUTPUT_BYTES_MAX, "{what} printed more than {OUTPUT_BYTES_MAX} bytes");
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A script that prints more than this has gone wrong.
const OUTPUT_BYTES_MAX: usize = 16 << 20;
