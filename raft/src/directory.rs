//! The files port on a directory of a real disk: written beside their target, synced, renamed, the directory synced.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use crate::ports::{Files, NewFile};

/// The ending of files that have no name yet. What has it at start was never finished.
const UNFINISHED: &str = ".unfinished";

/// Tells unfinished files of one name apart.
static UNFINISHED_NUMBER: AtomicU64 = AtomicU64::new(0);

/// A directory whose files only their owner may read.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
}

impl Directory {
    /// Opens the directory, makes it (0700) if it is missing, and deletes what was never finished.
    pub fn open(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        let directory = Self { path };
        for name in directory.names()? {
            if name.ends_with(UNFINISHED) {
                directory.remove(&name)?;
            }
        }
        Ok(directory)
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                names.push(entry.file_name().to_string_lossy().into_owned());
            }
        }
        names.sort();
        Ok(names)
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.path)?.sync_all()
    }
}

impl Files for Directory {
    fn read(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path.join(name)) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.create(name)?;
        file.write_all(bytes)?;
        file.commit()
    }

    fn create(&self, name: &str) -> io::Result<Box<dyn NewFile>> {
        let number = UNFINISHED_NUMBER.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.path.join(format!("{name}.{number}{UNFINISHED}"));
        let file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&unfinished)?;
        let new = Unfinished { directory: self.clone(), file, unfinished, name: name.to_owned(), is_committed: false };
        Ok(Box::new(new))
    }

    fn open(&self, name: &str) -> io::Result<Box<dyn Read + Send>> {
        Ok(Box::new(File::open(self.path.join(name))?))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.names()?.into_iter().filter(|name| !name.ends_with(UNFINISHED)).collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        match fs::remove_file(self.path.join(name)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

struct Unfinished {
    directory: Directory,
    file: File,
    unfinished: PathBuf,
    name: String,
    is_committed: bool,
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl NewFile for Unfinished {
    fn commit(mut self: Box<Self>) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.unfinished, self.directory.path.join(&self.name))?;
        self.is_committed = true;
        self.directory.sync()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.is_committed
            && let Err(error) = fs::remove_file(&self.unfinished)
        {
            tracing::warn!(file = %self.unfinished.display(), %error, "an unfinished file stays until the next start");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_file_is_there_whole_or_not_at_all() {
        let place = tempfile::tempdir().unwrap();
        let files = Directory::open(place.path().join("raft")).unwrap();
        assert_eq!(files.read("a").unwrap(), None);
        files.replace("a", b"one").unwrap();
        let mut file = files.create("a").unwrap();
        file.write_all(b"two").unwrap();
        assert_eq!(files.read("a").unwrap().unwrap(), b"one");
        drop(file);
        assert_eq!(files.list().unwrap(), ["a"]);
        files.replace("a", b"three").unwrap();
        assert_eq!(files.read("a").unwrap().unwrap(), b"three");
        files.remove("a").unwrap();
        files.remove("a").unwrap();
        assert_eq!(files.list().unwrap(), [""; 0]);
    }

    #[test]
    fn only_the_owner_can_read_and_leftovers_go_at_start() {
        let place = tempfile::tempdir().unwrap();
        let files = Directory::open(place.path().join("raft")).unwrap();
        files.replace("a", b"secret").unwrap();
        std::mem::forget(files.create("b").unwrap());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(files.path()), mode(&files.path().join("a"))), (0o700, 0o600));
        Directory::open(files.path()).unwrap();
        assert_eq!(fs::read_dir(files.path()).unwrap().count(), 1);
    }
}
