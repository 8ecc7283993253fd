//! The files port on a simulated disk, for one directory and one process.

use std::{
    io::{Error, ErrorKind, Read, Result, Write},
    sync::{Arc, MutexGuard},
};

use carrack_raft::ports::{Files, NewFile};
use rand::RngExt;

use super::{Disk, DiskEvent, DiskFault, file_table::Content, state::State};

/// A directory as one process sees it.
#[derive(Clone)]
pub(super) struct DiskFiles {
    disk: Disk,
    process: u64,
    area: Arc<str>,
}

impl DiskFiles {
    pub(super) fn new(disk: Disk, area: &str) -> Self {
        let process = disk.lock().process;
        Self { disk, process, area: area.into() }
    }

    fn state(&self) -> Result<MutexGuard<'_, State>> {
        self.disk.of_process(self.process)
    }
}

impl Files for DiskFiles {
    fn read(&self, name: &str) -> Result<Option<Vec<u8>>> {
        let mut state = self.state()?;
        state.check_file_read()?;
        Ok(state.files.get(&self.area, name).map(|content| content.to_vec()))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> Result<()> {
        self.state()?.put_file(&self.area, name, bytes.into())
    }

    fn create(&self, name: &str) -> Result<Box<dyn NewFile>> {
        drop(self.state()?);
        Ok(Box::new(Unfinished { files: self.clone(), name: name.to_owned(), bytes: Vec::new() }))
    }

    fn open(&self, name: &str) -> Result<Box<dyn Read + Send>> {
        let mut state = self.state()?;
        state.check_file_read()?;
        let missing = || Error::new(ErrorKind::NotFound, format!("there is no file {name} in {}", self.area));
        let content = state.files.get(&self.area, name).ok_or_else(missing)?.clone();
        Ok(Box::new(OpenFile { files: self.clone(), content, position: 0 }))
    }

    fn list(&self) -> Result<Vec<String>> {
        let mut state = self.state()?;
        state.check_file_read()?;
        let area = state.files.areas.get(&*self.area);
        Ok(area.map(|area| area.written.keys().cloned().collect()).unwrap_or_default())
    }

    fn remove(&self, name: &str) -> Result<()> {
        let mut state = self.state()?;
        state.check_file_write(0)?;
        if state.files.remove(&self.area, name) {
            let (area, name) = (self.area.to_string(), name.to_owned());
            state.journal.note(DiskEvent::FileRemoved { area, name });
        }
        Ok(())
    }
}

/// A file without a name: nothing of it outlives the process.
struct Unfinished {
    files: DiskFiles,
    name: String,
    bytes: Vec<u8>,
}

impl Write for Unfinished {
    fn write(&mut self, bytes: &[u8]) -> Result<usize> {
        self.files.state()?.check_file_write(self.bytes.len() + bytes.len())?;
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> Result<()> {
        self.files.state().map(drop)
    }
}

impl NewFile for Unfinished {
    fn commit(self: Box<Self>) -> Result<()> {
        let Self { files, name, bytes } = *self;
        files.state()?.put_file(&files.area, &name, bytes.into())
    }
}

/// A file being read: it stays as it was opened, whatever happens to its name.
struct OpenFile {
    files: DiskFiles,
    content: Content,
    position: usize,
}

impl Read for OpenFile {
    fn read(&mut self, bytes: &mut [u8]) -> Result<usize> {
        drop(self.files.state()?);
        let read = (&self.content[self.position..]).read(bytes)?;
        self.position += read;
        Ok(read)
    }
}

impl State {
    pub(super) fn check_file_read(&mut self) -> Result<()> {
        match self.strikes(DiskFault::FileReadError, self.faults.file_read_error) {
            true => Err(Error::other("the disk fails to read")),
            false => Ok(()),
        }
    }

    pub(super) fn check_file_write(&mut self, bytes: usize) -> Result<()> {
        if self.strikes(DiskFault::FileWriteError, self.faults.file_write_error) {
            return Err(Error::other("the disk fails to write"));
        }
        self.check_room(bytes as u64)
    }

    fn put_file(&mut self, area: &str, name: &str, bytes: Content) -> Result<()> {
        let checked = self.check_file_write(bytes.len());
        // The last thing that can fail is the sync of the directory, when the file has its name already.
        let is_full = checked.as_ref().is_err_and(|error| error.kind() == ErrorKind::StorageFull);
        if checked.is_ok() || (!is_full && self.random.random_bool(0.5)) {
            let is_durable = checked.is_ok() && !self.faults.lies_about_files;
            self.files.put(area, name, bytes.clone(), is_durable);
            let (area, name, is_told) = (area.to_owned(), name.to_owned(), checked.is_ok());
            self.journal.note(DiskEvent::FileReplaced { area, name, bytes, is_told });
        }
        checked
    }
}
