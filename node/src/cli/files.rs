//! Files that commands read and write. A set of files is written beside its targets, synced, and renamed, so that none is ever half there.

use std::{
    fs::{self, DirBuilder, File, OpenOptions, Permissions},
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use super::error::CliError;

/// The longest file that a command reads: a bundle of hundreds of roots is smaller.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// Keys and certificates are for their owner.
const FILE_MODE: u32 = 0o600;
/// A directory that a command makes is for its owner too.
const DIRECTORY_MODE: u32 = 0o700;

/// The contents of a file.
pub fn read(path: &Path) -> Result<Vec<u8>, CliError> {
    let failed = |source| CliError::File { action: "read", path: path.into(), source };
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut bytes)).map_err(failed)?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(failed(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes"))));
    }
    Ok(bytes)
}

/// Writes files, by name, into a directory, which is made if it is missing; all are on the disk before the first takes its place.
pub fn write_all(directory: &Path, files: &[(String, &[u8])]) -> Result<Vec<PathBuf>, CliError> {
    let failed = |action, path: &Path, source| CliError::File { action, path: path.into(), source };
    let made = DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory);
    made.map_err(|source| failed("make the directory", directory, source))?;
    for (name, contents) in files {
        let new = directory.join(format!(".{name}.new"));
        write_synced(&new, contents).map_err(|source| failed("write", &new, source))?;
    }
    let mut written = Vec::new();
    for (name, _) in files {
        let path = directory.join(name);
        let renamed = fs::rename(directory.join(format!(".{name}.new")), &path);
        renamed.map_err(|source| failed("put in place", &path, source))?;
        written.push(path);
    }
    let synced = File::open(directory).and_then(|directory| directory.sync_all());
    synced.map_err(|source| failed("sync", directory, source))?;
    Ok(written)
}

fn write_synced(path: &Path, contents: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(FILE_MODE).open(path)?;
    // A file that an earlier run left keeps its mode, so the mode is set again before the first secret byte.
    file.set_permissions(Permissions::from_mode(FILE_MODE))?;
    file.write_all(contents)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_for_their_owner_and_replace_what_was_there() {
        let directory = tempfile::tempdir().expect("a directory");
        let target = directory.path().join("made/here");
        write_all(&target, &[("a.key".into(), b"old"), ("a.pem".into(), b"old")]).expect("they are written");
        let written = write_all(&target, &[("a.key".into(), b"new")]).expect("it is written");
        assert_eq!(written, [target.join("a.key")]);
        assert_eq!(read(&written[0]).expect("it is read"), b"new");
        let mode = fs::metadata(&written[0]).expect("it is there").permissions().mode();
        assert_eq!(mode & 0o777, FILE_MODE);
        let names = fs::read_dir(&target).expect("it is listed").count();
        assert_eq!(names, 2, "nothing is left beside the files");
    }

    #[test]
    fn a_file_that_cannot_be_read_is_named() {
        let error = read(Path::new("no/such.pem")).expect_err("there is none");
        assert!(error.report().starts_with("error: cannot read no/such.pem\n  because: "), "{}", error.report());
    }
}
