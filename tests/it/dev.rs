//! `carrack dev`: what its closing lines show, and the lines to try next, tried.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::Child,
};

use carrack_tests::{command::Carrack, http::Http, ports::free_offset, wait};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// The ports of one server, of the agent beside it, and of a second datacenter.
const PORTS: [u16; 12] = [8300, 8302, 8500, 8501, 8503, 8550, 9300, 9302, 9500, 9501, 9503, 9550];

/// A running `carrack dev` of two datacenters with a server each.
struct Dev<'a> {
    child: Child,
    directory: &'a Path,
}

impl<'a> Dev<'a> {
    fn start(directory: &'a Path, offset: u16) -> Self {
        let data = directory.join("data").display().to_string();
        let numbers = ["--servers", "1", "--port-offset", &offset.to_string()].map(str::to_owned);
        let arguments = ["dev".to_owned(), "--data-dir".into(), data].into_iter().chain(numbers);
        let file = |name: &str| File::create(directory.join(name)).expect("a file can be made");
        let mut command = Carrack::new(arguments).into_command();
        let child = command.stdout(file("output")).stderr(file("errors")).spawn();
        let dev = Self { child: child.expect("the carrack binary can be started"), directory };
        wait::until("the closing lines", || {
            let is_there = dev.output().ends_with("Ctrl-C stops it.\n");
            wait::holds(is_there, || format!("{}\n{}", dev.output(), dev.read("errors")))
        });
        dev
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap_or_default()
    }

    fn output(&self) -> String {
        self.read("output")
    }

    /// The variables that `source <data directory>/env` sets.
    fn variables(&self) -> Vec<(String, String)> {
        let line = |line: &str| {
            let (name, value) = line.strip_prefix("export ")?.split_once('=')?;
            Some((name.to_owned(), value.trim_matches('\'').to_owned()))
        };
        self.read("data/env").lines().map(|text| line(text).unwrap_or_else(|| panic!("{text}"))).collect()
    }

    /// Runs a command as a second terminal would.
    fn carrack(&self, arguments: &[&str]) -> String {
        let command = Carrack::new(arguments);
        let variables = self.variables();
        variables.iter().fold(command, |command, (name, value)| command.env(name, value)).run().expect_output()
    }

    /// Starts a command as a second terminal would; what it prints goes to a file of this name.
    fn start_beside(&self, arguments: &[&str], name: &str) -> Beside {
        let command = Carrack::new(arguments);
        let variables = self.variables();
        let command = variables.iter().fold(command, |command, (name, value)| command.env(name, value));
        let file = File::create(self.path(name)).expect("a file can be made");
        let errors = file.try_clone().expect("a file can be shared");
        let child = command.into_command().stdout(file).stderr(errors).spawn();
        Beside(child.expect("the carrack binary can be started"))
    }

    /// The lines to try that begin so.
    fn lines(&self, beginning: &str) -> Vec<String> {
        let output = self.output();
        let (_, next) = output.split_once("In a second terminal:").expect("there are lines to try");
        let lines = next.lines().map(str::trim).filter(|line| line.starts_with(beginning));
        lines.map(str::to_owned).collect()
    }

    /// Asks it to stop, as Ctrl-C does; whether it ended well.
    fn stop(mut self) -> bool {
        kill_process(Pid::from_child(&self.child), Signal::INT).expect("a child can be signalled");
        self.child.wait().is_ok_and(|status| status.success())
    }
}

impl Drop for Dev<'_> {
    fn drop(&mut self) {
        // A process that has ended already needs no signal.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that runs beside it, and ends with the test at the latest.
struct Beside(Child);

impl Drop for Beside {
    fn drop(&mut self) {
        // A process that has ended already needs no signal.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn expect_shown(output: &str) {
    for shown in [
        "Datacenters: 2, with 1 servers and an agent each",
        "/ns/default/dc/dc2/svc/api\n      leaf ",
        "the agent of dc1 allows api => web: Matched L4 intention: default/api => default/web (Precedence: 9, Action: ALLOW)",
        "the agent of dc2 denies web => api: Default behavior configured by ACLs",
        "carrack intention explain api web\n      api => web: allowed",
        "*       web          deny  8",
    ] {
        assert!(output.contains(shown), "{shown} is not in\n{output}");
    }
}

#[test]
fn its_agents_decide_and_the_lines_to_try_work() {
    let (directory, offset) = (TempDir::new().expect("a temporary directory"), free_offset(&PORTS));
    let dev = Dev::start(directory.path(), offset);
    expect_shown(&dev.output());

    // Every command but the one with a shell's redirection, which comes after, and the rotation, which is a story of its own.
    let others = |line: &&String| !line.contains(" intention ") && !line.contains(" ca rotate ");
    for line in dev.lines("carrack ").iter().filter(others) {
        let arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
        let printed = dev.carrack(&arguments);
        assert!(!printed.is_empty(), "{line}");
    }
    let cached = dev.lines("carrack agent cache");
    let address = cached[0].rsplit_once(' ').expect("an address").1;
    let cache = dev.carrack(&["agent", "cache", "--http-addr", address]);
    assert!(cache.contains("web") && cache.contains("Bundle"), "{cache}");

    let token = dev.read("data/management.token");
    let agent = Http::new(address.trim_start_matches("http://").parse().expect("an address")).with_token(token.trim());
    let question = dev.lines("-d ")[0].trim_start_matches("-d ").trim_matches('\'').to_owned();
    let question: Value = serde_json::from_str(&question).expect("the question is JSON");
    let ask = || {
        let answer = agent.send("POST", "/v1/agent/connect/authorize", Some(&question)).expect("an answer");
        assert_eq!(answer.status, 200, "{}", answer.body);
        answer.json()
    };
    assert_eq!(ask()["Authorized"], true);

    let create = &dev.lines("carrack intention create")[0];
    let permissions = create.split_once("<(echo '").and_then(|(_, rest)| rest.strip_suffix("')")).expect("permissions");
    let file = dev.path("permissions.json");
    fs::write(&file, permissions).expect("the file is written");
    let made = dev.carrack(&["intention", "create", "api", "web", "--permissions", file.to_str().expect("UTF-8")]);
    assert!(made.contains("1 permission"), "{made}");
    let explained: Vec<String> =
        dev.lines("carrack intention explain").iter().map(|line| explain(&dev, line)).collect();
    assert!(explained[0].starts_with("api => web: allowed"), "{}", explained[0]);
    assert!(explained[1].starts_with("api => web: denied"), "{}", explained[1]);
    wait::until("the agent to hear of the rule", || {
        let answer = ask();
        wait::holds(answer["Reason"].as_str().is_some_and(|reason| reason.contains("L7")), || answer.to_string())
    });

    // A second start goes on with what is there: neither server nor agent joins again.
    assert!(dev.stop(), "it ends well");
    let again = Dev::start(directory.path(), offset);
    expect_shown(&again.output());
    assert!(!again.read("errors").contains("joining"), "{}", again.read("errors"));
    assert!(again.stop(), "it ends well");
}

/// How many handshakes a line tells of, and how many have failed.
fn counted(line: &str) -> Option<(u64, u64)> {
    let (_, counts) = line.split_once("handshakes: ")?;
    let number = |end: &str| {
        let text = counts.split_once(end)?.0.rsplit(' ').next()?;
        text.replace(',', "").parse().ok()
    };
    Some((number(" in all")?, number(" failed")?))
}

#[test]
fn a_rotation_is_shown_live_with_its_handshakes_and_none_fails() {
    let (directory, offset) = (TempDir::new().expect("a temporary directory"), free_offset(&PORTS));
    let dev = Dev::start(directory.path(), offset);
    let line = dev.lines("carrack ca rotate")[0].clone();
    let mut arguments: Vec<&str> = line.split_whitespace().skip(1).collect();
    assert_eq!(arguments, ["ca", "rotate", "--watch"]);
    arguments.extend(["--pause-before", "activate", "--key-type", "ec-p384"]);
    let live = || dev.output().split_once("Ctrl-C stops it.\n").map(|(_, live)| live.to_owned()).unwrap_or_default();
    assert_eq!(live(), "", "nothing is shown while there is no rotation");

    let mut watching = dev.start_beside(&arguments, "watched");
    wait::until("the rotation to be shown as paused, with handshakes", || {
        let is_paused = |line: &str| line.starts_with("rotation ") && line.contains(": paused: ");
        let has_some = |line: &str| counted(line).is_some_and(|(all, _)| all > 0);
        let live = live();
        wait::holds(live.lines().any(|line| is_paused(line) && has_some(line)), || {
            format!("{live}\n{}", dev.read("errors"))
        })
    });
    dev.carrack(&["ca", "resume"]);
    let status = wait::until("the command that watches to end", || {
        let ended = watching.0.try_wait().expect("a child can be waited for");
        ended.ok_or_else(|| format!("{}\n{}", dev.read("watched"), live()))
    });
    let watched = dev.read("watched");
    assert!(status.success(), "{watched}");
    let summary = watched.lines().last().expect("a summary");
    assert!(summary.starts_with("handshakes: "), "{watched}");
    assert!(counted(summary).is_some_and(|(all, failed)| all > 0 && failed == 0), "{watched}");
    assert!(watched.lines().any(|line| line.starts_with("rotation ") && line.contains(" finished: all ")), "{watched}");

    let shown = wait::until("the end of the rotation to be shown", || {
        let live = live();
        let is_over = live.lines().any(|line| line.starts_with("rotation ") && line.contains(" finished: all "));
        wait::holds(is_over, || live.clone())?;
        Ok(live)
    });
    let told: Vec<(u64, u64)> = shown.lines().filter_map(counted).collect();
    assert!(told.iter().all(|(_, failed)| *failed == 0), "{shown}");
    assert!(told.is_sorted() && told.last().is_some_and(|(all, _)| *all > 0), "{shown}");
    assert!(dev.stop(), "it ends well");
}

fn explain(dev: &Dev<'_>, line: &str) -> String {
    dev.carrack(&line.split_whitespace().skip(1).collect::<Vec<_>>())
}
