//! One real server: a process with its own data directory, ports and log, which is killed when the test lets go of it.

use std::{
    fs::{self, File, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, ExitStatus},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    command::{Carrack, Ended},
    http::Http,
    ports::free_address,
    wait,
};

/// A server that was asked to stop has this long.
const STOP_PATIENCE: Duration = Duration::from_secs(30);
/// How much of a log is shown when a test fails.
const LOG_BYTES_SHOWN: usize = 8 * 1024;

/// How a server is started.
#[derive(Clone, Copy, Debug)]
pub enum Start<'a> {
    /// As the first of its datacenter.
    Bootstrap,
    /// As the first of a secondary, with a federation token.
    BootstrapSecondary(&'a str),
    /// With a join token.
    Join(&'a str),
    /// With what its data directory holds.
    Again,
}

/// A server process, running or not.
pub struct Server {
    /// Its node name.
    pub name: String,
    /// The listener of each kind.
    pub raft: SocketAddr,
    /// Its gRPC listener.
    pub grpc: SocketAddr,
    /// Its WAN listener.
    pub wan: SocketAddr,
    /// Where servers of other datacenters reach it, if it is not its WAN listener.
    pub advertised_wan: Option<SocketAddr>,
    /// Its plain HTTP listener.
    pub http: SocketAddr,
    /// Its HTTPS listener.
    pub https: SocketAddr,
    /// Further flags for each start.
    pub flags: Vec<String>,
    directory: PathBuf,
    child: Option<Child>,
    is_paused: bool,
}

impl Server {
    /// A server that is not started yet, with a place of its own in `directory` and free ports.
    pub fn new(name: &str, directory: &Path) -> Self {
        Self {
            name: name.into(),
            raft: free_address(),
            grpc: free_address(),
            wan: free_address(),
            advertised_wan: None,
            http: free_address(),
            https: free_address(),
            flags: Vec::new(),
            directory: directory.join(name),
            child: None,
            is_paused: false,
        }
    }

    /// The process's id.
    ///
    /// # Panics
    /// Panics if it does not run.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the server runs").id()
    }

    /// Its data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// The file that its log lines go to, over all of its starts.
    pub fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Starts the process; it is not waited for.
    ///
    /// # Panics
    /// Panics if it is running or cannot be started.
    #[track_caller]
    pub fn start(&mut self, start: Start<'_>) {
        assert!(self.child.is_none(), "{} runs already", self.name);
        fs::create_dir_all(&self.directory).expect("a temporary directory can be made");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log file can be made");
        let errors = log.try_clone().expect("a file can be shared");
        let mut command = Carrack::new(self.arguments(start)).env("RUST_BACKTRACE", "1").into_command();
        self.child = Some(command.stdout(log).stderr(errors).spawn().expect("the carrack binary can be started"));
    }

    fn arguments(&self, start: Start<'_>) -> Vec<String> {
        let mut arguments = vec!["server".to_owned()];
        match start {
            Start::Bootstrap => arguments.push("--bootstrap".into()),
            Start::BootstrapSecondary(token) => {
                arguments.extend(["--bootstrap".into(), "--join-primary".into(), token.into()]);
            }
            Start::Join(token) => arguments.extend(["--join".into(), token.into()]),
            Start::Again => {}
        }
        let settings = [
            ("--data-dir", self.data_directory().display().to_string()),
            ("--node-name", self.name.clone()),
            ("--listen-address", "127.0.0.1".into()),
            ("--listen-raft", self.raft.to_string()),
            ("--listen-grpc", self.grpc.to_string()),
            ("--listen-wan", self.wan.to_string()),
            ("--listen-http", self.http.to_string()),
            ("--listen-https", self.https.to_string()),
        ];
        arguments.extend(settings.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        if let Some(address) = self.advertised_wan {
            arguments.extend(["--advertise-wan".into(), address.to_string()]);
        }
        arguments.extend(self.flags.clone());
        arguments
    }

    /// Ends the process as a power failure would, except that the disk keeps what was written.
    pub fn kill(&mut self) {
        self.is_paused = false;
        if let Some(mut child) = self.child.take() {
            // A process that has ended already needs no signal.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks the process to stop, and gives how it ended.
    ///
    /// # Panics
    /// Panics if it does not run, or does not stop.
    #[track_caller]
    pub fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait_for_end()
    }

    /// Waits until the process ends by itself, and gives how.
    ///
    /// # Panics
    /// Panics if it does not run, or does not end.
    #[track_caller]
    pub fn wait_for_end(&mut self) -> ExitStatus {
        let what = format!("the end of {}", self.name);
        let child = self.child.as_mut().expect("it was started");
        let status = wait::until_within(&what, STOP_PATIENCE, || match child.try_wait() {
            Ok(Some(status)) => Ok(status),
            Ok(None) => Err("it runs".into()),
            Err(error) => Err(error.to_string()),
        });
        self.child = None;
        status
    }

    /// Halts the process without ending it: its connections stay open and silent.
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
        self.is_paused = true;
    }

    /// Lets a paused process go on.
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
        self.is_paused = false;
    }

    #[track_caller]
    pub(crate) fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it was started");
        let pid = Pid::from_child(child);
        kill_process(pid, signal).expect("a child that was not waited for can be signalled");
    }

    /// Whether it was started and not ended by the test.
    pub fn is_started(&self) -> bool {
        self.child.is_some()
    }

    /// Whether it was started, not ended by the test, and is not paused: it should answer.
    pub fn is_running(&self) -> bool {
        self.is_started() && !self.is_paused
    }

    /// Why it does not run any more, if it was started and has ended by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.as_mut().and_then(|child| child.try_wait().ok().flatten())
    }

    /// A client of its plain HTTP listener.
    pub fn client(&self) -> Http {
        Http::new(self.http)
    }

    /// Its status, as its HTTP API shows it.
    pub fn status(&self, token: &str) -> Result<Value, String> {
        self.client().with_token(token).read("/v1/carrack/status")
    }

    /// Runs a `carrack` command against it.
    pub fn carrack(&self, token: &str, arguments: &[&str]) -> Ended {
        self.command(token, arguments).run()
    }

    /// A `carrack` command that speaks to it.
    pub fn command(&self, token: &str, arguments: &[&str]) -> Carrack {
        let command = Carrack::new(arguments).env("CARRACK_HTTP_ADDR", format!("http://{}", self.http));
        if token.is_empty() { command } else { command.env("CARRACK_TOKEN", token) }
    }

    /// Waits until it says that it is ready.
    ///
    /// # Panics
    /// Panics if it ends, or does not become ready.
    #[track_caller]
    pub fn wait_until_ready(&mut self) {
        let client = self.client();
        let what = format!("{} to be ready", self.name);
        wait::until(&what, || {
            if let Some(status) = self.ended() {
                panic!("{} ended with {status}\n{}", self.name, self.log_tail());
            }
            let answer = client.send("GET", "/readyz", None)?;
            wait::holds(answer.status == 200, || format!("{} {}", answer.status, answer.body))
        });
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// The end of its log, for messages.
    pub fn log_tail(&self) -> String {
        let log = self.log();
        let start = log.len().saturating_sub(LOG_BYTES_SHOWN);
        let start = (start..log.len()).find(|position| log.is_char_boundary(*position)).unwrap_or(log.len());
        format!("--- the log of {} ends with:\n{}", self.name, &log[start..])
    }

    /// Removes its data directory: a disk that was replaced.
    ///
    /// # Panics
    /// Panics if it runs or its directory cannot be removed.
    pub fn wipe(&mut self) {
        assert!(self.child.is_none(), "{} runs", self.name);
        fs::remove_dir_all(self.data_directory()).expect("the data directory can be removed");
    }

    /// A file of its data directory, opened for damage.
    ///
    /// # Panics
    /// Panics if there is no such file.
    pub fn open_data_file(&self, relative: &str) -> File {
        let path = self.data_directory().join(relative);
        let file = OpenOptions::new().read(true).write(true).open(&path);
        file.unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let was_started = self.is_started();
        self.kill();
        if was_started && std::thread::panicking() {
            eprintln_tail(&self.log_tail());
        }
    }
}

#[expect(clippy::print_stderr, reason = "the logs of a failed test belong to its output")]
fn eprintln_tail(tail: &str) {
    eprintln!("{tail}");
}
