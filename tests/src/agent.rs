//! One real agent: a process with its own data directory, port and log, which is killed when the test lets go of it.

use std::{
    fs::{self, OpenOptions},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    command::{Carrack, Ended},
    http::Http,
    ports::free_address,
    wait,
};

/// An agent process, running or not.
pub struct Agent {
    /// Its HTTP listener.
    pub http: SocketAddr,
    directory: PathBuf,
    child: Option<Child>,
}

impl Agent {
    /// An agent that is not started yet, with a place of its own in `directory` and a free port.
    pub fn new(name: &str, directory: &Path) -> Self {
        Self { http: free_address(), directory: directory.join(name), child: None }
    }

    fn arguments(&self, token: Option<&str>) -> Vec<String> {
        let mut arguments = vec![
            "agent".to_owned(),
            "--data-dir".into(),
            self.data_directory().display().to_string(),
            "--listen-http".into(),
            self.http.to_string(),
        ];
        if let Some(token) = token {
            arguments.extend(["--join".into(), token.into()]);
        }
        arguments
    }

    /// The process's id.
    ///
    /// # Panics
    /// Panics if it does not run.
    pub fn process_id(&self) -> u32 {
        self.child.as_ref().expect("the agent runs").id()
    }

    /// Its data directory.
    pub fn data_directory(&self) -> PathBuf {
        self.directory.join("data")
    }

    /// Starts the process, with a token for its first time.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    #[track_caller]
    pub fn start(&mut self, token: Option<&str>) {
        assert!(self.child.is_none(), "the agent runs already");
        fs::create_dir_all(&self.directory).expect("a temporary directory can be made");
        let log = OpenOptions::new().create(true).append(true).open(self.log_file()).expect("a log file can be made");
        let errors = log.try_clone().expect("a file can be shared");
        let mut command = Carrack::new(self.arguments(token)).env("RUST_BACKTRACE", "1").into_command();
        self.child = Some(command.stdout(log).stderr(errors).spawn().expect("the carrack binary can be started"));
    }

    /// Starts the process again where no file can grow; it has no log then.
    ///
    /// # Panics
    /// Panics if it cannot be started.
    #[track_caller]
    pub fn start_on_full_disk(&mut self) {
        assert!(self.child.is_none(), "the agent runs already");
        let mut command = Carrack::new(self.arguments(None)).on_full_disk().into_command();
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.child = Some(command.spawn().expect("the carrack binary can be started"));
    }

    /// Starts it for the first time where no file can grow, and gives how it ended.
    pub fn start_in_vain_on_full_disk(&self, token: &str) -> Ended {
        Carrack::new(self.arguments(Some(token))).on_full_disk().run()
    }

    /// Starts it where it cannot run, and gives how it ended.
    pub fn start_in_vain(&self, token: Option<&str>) -> Ended {
        fs::create_dir_all(&self.directory).expect("a temporary directory can be made");
        Carrack::new(self.arguments(token)).run()
    }

    /// Waits until it serves.
    ///
    /// # Panics
    /// Panics if it does not.
    #[track_caller]
    pub fn wait_until_ready(&self) {
        let client = self.client();
        wait::until("the agent to be ready", || {
            let answer = client.send("GET", "/readyz", None)?;
            wait::holds(answer.status == 200, || format!("{} {}\n{}", answer.status, answer.body, self.log()))
        });
    }

    /// A client of its HTTP listener.
    pub fn client(&self) -> Http {
        Http::new(self.http)
    }

    /// A `carrack` command that speaks to it.
    pub fn command(&self, token: &str, arguments: &[&str]) -> Carrack {
        let command = Carrack::new(arguments).env("CARRACK_HTTP_ADDR", format!("http://{}", self.http));
        command.env("CARRACK_TOKEN", token)
    }

    /// Ends it at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // A process that has ended already needs no signal.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Asks it to stop; whether it ended well.
    ///
    /// # Panics
    /// Panics if it does not run.
    #[track_caller]
    pub fn stop(&mut self) -> bool {
        self.signal(Signal::TERM);
        let mut child = self.child.take().expect("it was started");
        child.wait().is_ok_and(|status| status.success())
    }

    /// Stops the process where it is, as a suspended machine does.
    ///
    /// # Panics
    /// Panics if it does not run.
    #[track_caller]
    pub fn pause(&mut self) {
        self.signal(Signal::STOP);
    }

    /// Lets a paused process go on.
    ///
    /// # Panics
    /// Panics if it does not run.
    #[track_caller]
    pub fn resume(&mut self) {
        self.signal(Signal::CONT);
    }

    #[track_caller]
    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it was started");
        kill_process(Pid::from_child(child), signal).expect("a child can be signalled");
    }

    fn log_file(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// Its whole log.
    pub fn log(&self) -> String {
        fs::read(self.log_file()).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        self.kill();
    }
}
