//! Worlds in files: a seed means another world when the code that draws it changes, a file means the same one for ever. Those in
//! `simulation/seeds/` have found something once and must hold from then on.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

use anyhow::Context;
use clap::Args;
use serde::{Deserialize, Serialize};

use super::{one::One, progress::say};
use crate::scenario::Scenario;

/// Where worlds are kept that have found something, seen from the root of the repository.
pub(super) const FOLDER: &str = "simulation/seeds";

/// A world in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Saved {
    /// What it has found.
    found: String,
    /// The commit that has put it right, or in which it was found.
    commit: String,
    /// The world.
    scenario: Scenario,
}

/// A file with a world, as an argument.
#[derive(Clone, Debug)]
pub(super) struct SavedWorld {
    path: PathBuf,
    saved: Arc<Saved>,
}

impl SavedWorld {
    /// Reads a file.
    pub(super) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let saved = serde_json::from_str(&text).with_context(|| format!("{} is no saved world", path.display()))?;
        Ok(Self { path: path.to_owned(), saved: Arc::new(saved) })
    }

    /// Every world of a folder, by name.
    pub(super) fn read_all(folder: &Path) -> anyhow::Result<Vec<Self>> {
        let listed = std::fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))?;
        let mut paths = listed.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
        paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    pub(super) fn scenario(&self) -> Scenario {
        self.saved.scenario.clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl FromStr for SavedWorld {
    type Err = String;

    fn from_str(path: &str) -> Result<Self, String> {
        Self::read(Path::new(path)).map_err(|error| format!("{error:#}"))
    }
}

/// What is saved.
#[derive(Debug, Args)]
pub(super) struct Save {
    #[command(flatten)]
    one: One,
    /// The file
    #[arg(long, value_name = "FILE")]
    to: PathBuf,
    /// What it has found, in a sentence
    #[arg(long, value_name = "TEXT")]
    found: String,
    /// The commit that puts it right, or in which it was found
    #[arg(long)]
    commit: String,
}

impl Save {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        write(&self.to, &self.one, &self.found, &self.commit)?;
        Ok(true)
    }
}

/// Writes a world to a file.
pub(super) fn write(path: &Path, one: &One, found: &str, commit: &str) -> anyhow::Result<()> {
    let saved = Saved { found: found.into(), commit: commit.into(), scenario: one.scenario() };
    let text = format!("{}\n", serde_json::to_string_pretty(&saved)?);
    std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    say(&format!("the world is in {}", path.display()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_world_of_the_folder_can_be_read_and_says_what_it_has_found() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("seeds");
        let all = SavedWorld::read_all(&folder).unwrap();
        assert!(!all.is_empty());
        for world in &all {
            assert!(!world.saved.found.is_empty() && !world.saved.commit.is_empty(), "{}", world.path.display());
            assert!(world.scenario().ca.validate().is_ok(), "{}", world.path.display());
        }
    }

    #[test]
    fn a_saved_world_is_read_as_it_was_and_a_misspelt_field_is_refused() {
        let scenario = Scenario::derive(7);
        let saved = Saved { found: "something".into(), commit: "0123456".into(), scenario };
        let text = serde_json::to_string_pretty(&saved).unwrap();
        assert_eq!(serde_json::from_str::<Saved>(&text).unwrap(), saved);
        assert!(serde_json::from_str::<Saved>(&text.replace("\"think\"", "\"thinks\"")).is_err());
    }
}
