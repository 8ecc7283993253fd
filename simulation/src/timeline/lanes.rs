//! From events to lanes: spans, ticks and bars, each of which knows its event.

use std::collections::BTreeMap;

use carrack_raft::Role;

use crate::trace::{Detail, Event, Kind, Life};

const SECOND: u64 = 1_000_000;

/// A lane of the page: rows of shapes under one name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Lane {
    pub(super) name: String,
    pub(super) what: &'static str,
    pub(super) rows: usize,
    pub(super) shapes: Vec<Shape>,
}

/// Something in a lane.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) row: usize,
    pub(super) form: Form,
    /// What it is, for its colour.
    pub(super) class: &'static str,
    /// What stands in it.
    pub(super) label: String,
    /// The number of its event.
    pub(super) event: usize,
}

/// How it is drawn.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// From one time to another.
    Span { from: u64, to: u64 },
    /// A strip at the foot of the row.
    Strip { from: u64, to: u64 },
    /// At one time.
    Tick { at: u64 },
    /// A second, as high as so many of a hundred.
    Bar { from: u64, percent: u64 },
}

/// Every lane, in the order of the page.
pub(super) fn lanes(events: &[&Event], ends_at: u64) -> Vec<Lane> {
    let faults = faults(events, ends_at);
    let mut lanes = vec![flags(events), fault_lane(&faults), link_lane(&faults)];
    lanes.extend(servers(events).into_iter().map(|host| server_lane(&host, events, &faults, ends_at)));
    lanes.push(bars(
        "committed",
        "entries that were applied first in their datacenter, each second",
        &committed(events),
    ));
    let issued = events.iter().enumerate().filter(|(_, event)| event.kind == Kind::Issued);
    lanes.push(bars("leaves", "leaves that clients received, each second", &issued.map(pair).collect::<Vec<_>>()));
    lanes.push(ticks("handshakes", "between workloads", events, |event| {
        let class = if event.detail == Detail::Failed { "bad" } else { "good" };
        (event.kind == Kind::Handshake).then_some(class)
    }));
    lanes.push(ticks("clients", "what was refused or is unknown", events, |event| {
        (event.kind == Kind::Client && event.detail == Detail::Failed).then_some("warn")
    }));
    lanes
}

/// A fault from its begin to its end.
struct Fault<'a> {
    event: usize,
    number: usize,
    class: &'static str,
    hosts: &'a [String],
    links: &'a [(String, String)],
    from: u64,
    to: u64,
}

fn faults<'a>(events: &[&'a Event], ends_at: u64) -> Vec<Fault<'a>> {
    let mut faults: Vec<Fault<'a>> = Vec::new();
    let mut open: BTreeMap<usize, usize> = BTreeMap::new();
    for (event, it) in events.iter().enumerate() {
        match &it.detail {
            Detail::Began { number, class, hosts, links, lasts } => {
                if *lasts {
                    open.insert(*number, faults.len());
                }
                let to = if *lasts { ends_at } else { it.at };
                faults.push(Fault { event, number: *number, class, hosts, links, from: it.at, to });
            }
            Detail::Ended(number) => {
                if let Some(fault) = open.remove(number) {
                    faults[fault].to = it.at;
                }
            }
            Detail::AllEnded => std::mem::take(&mut open).into_values().for_each(|fault| faults[fault].to = it.at),
            _ => {}
        }
    }
    faults
}

fn flags(events: &[&Event]) -> Lane {
    let mut lane = ticks("situations", "marks, and what does not hold", events, |event| match event.kind {
        Kind::Mark => Some("mark"),
        Kind::Violation => Some("violation"),
        _ => None,
    });
    for shape in &mut lane.shapes {
        if shape.class == "violation" {
            shape.label = events[shape.event].text.split(':').next().unwrap_or_default().to_owned();
        }
    }
    lane
}

fn fault_lane(faults: &[Fault<'_>]) -> Lane {
    let spans = faults.iter().map(|fault| (fault, format!("{} {}", fault.number, fault.class))).collect();
    stacked("faults", "with their numbers in the plan", spans, |fault| match fault.links {
        [] => "fault",
        _ => "link",
    })
}

fn link_lane(faults: &[Fault<'_>]) -> Lane {
    let spans = faults.iter().filter(|fault| !fault.links.is_empty());
    let spans = spans.map(|fault| (fault, directions(fault.links))).collect();
    stacked("links", "who does not reach whom", spans, |_| "link")
}

/// Directions in short: `a–b` if none reaches the other, `a→b` if only messages from `a` to `b` are lost.
fn directions(links: &[(String, String)]) -> String {
    let short = |host: &String| host.rsplit('-').next().unwrap_or(host).to_owned();
    let texts = links.iter().filter_map(|(from, to)| {
        let is_both = links.iter().any(|(other_from, other_to)| other_from == to && other_to == from);
        match (is_both, from < to) {
            (true, true) => Some(format!("{}–{}", short(from), short(to))),
            (true, false) => None,
            (false, _) => Some(format!("{}→{}", short(from), short(to))),
        }
    });
    texts.collect::<Vec<_>>().join(" ")
}

/// Spans in as many rows as it takes for none to cover another.
fn stacked(
    name: &str,
    what: &'static str,
    spans: Vec<(&Fault<'_>, String)>,
    class: impl Fn(&Fault<'_>) -> &'static str,
) -> Lane {
    let mut ends: Vec<u64> = Vec::new();
    let mut lane = Lane { name: name.into(), what, ..Lane::default() };
    for (fault, label) in spans {
        let row = ends.iter().position(|end| *end < fault.from).unwrap_or(ends.len());
        if row == ends.len() {
            ends.push(0);
        }
        // Room for the label of a fault without a duration, at the page's first scale.
        ends[row] = fault.to.max(fault.from + 2 * SECOND);
        let form = if fault.to == fault.from {
            Form::Tick { at: fault.from }
        } else {
            Form::Span { from: fault.from, to: fault.to }
        };
        lane.shapes.push(Shape { row, form, class: class(fault), label, event: fault.event });
    }
    lane.rows = ends.len().max(1);
    lane
}

/// The hosts that have ever started a process.
fn servers(events: &[&Event]) -> Vec<String> {
    let hosts = events.iter().filter(|event| matches!(event.detail, Detail::Life(_) | Detail::Role(..)));
    let hosts: std::collections::BTreeSet<String> = hosts.map(|event| event.subject.to_string()).collect();
    hosts.into_iter().collect()
}

fn server_lane(host: &str, events: &[&Event], faults: &[Fault<'_>], ends_at: u64) -> Lane {
    let mut lane = Lane { name: host.into(), what: "role and term; below, faults of it", rows: 1, shapes: Vec::new() };
    let mut since: Option<(usize, u64, &'static str, String)> = None;
    let own = events.iter().enumerate().filter(|(_, event)| &*event.subject == host);
    for (number, event) in own {
        let next = match &event.detail {
            Detail::Life(Life::Starting) => Some(("starting", String::new())),
            Detail::Life(Life::Serving) => Some(("serving", String::new())),
            Detail::Role(role, term) => Some((role_class(*role), format!("{term}"))),
            Detail::Life(Life::Gone | Life::Refused) => None,
            _ => continue,
        };
        lane.close(&mut since, event.at);
        since = next.map(|(class, label)| (number, event.at, class, label));
        if since.is_none() {
            let class = if event.detail == Detail::Life(Life::Refused) { "bad" } else { "gone" };
            lane.shapes.push(Shape {
                row: 0,
                form: Form::Tick { at: event.at },
                class,
                label: String::new(),
                event: number,
            });
        }
    }
    lane.close(&mut since, ends_at);
    for fault in faults.iter().filter(|fault| fault.hosts.iter().any(|hit| hit == host)) {
        let (form, label) = (Form::Strip { from: fault.from, to: fault.to }, String::new());
        lane.shapes.push(Shape { row: 0, form, class: "fault", label, event: fault.event });
    }
    lane
}

impl Lane {
    fn close(&mut self, since: &mut Option<(usize, u64, &'static str, String)>, at: u64) {
        if let Some((event, from, class, label)) = since.take().filter(|(_, from, ..)| *from < at) {
            self.shapes.push(Shape { row: 0, form: Form::Span { from, to: at }, class, label, event });
        }
    }
}

const fn role_class(role: Role) -> &'static str {
    match role {
        Role::Learner => "learner",
        Role::Follower => "follower",
        Role::Candidate => "candidate",
        Role::Leader => "leader",
        Role::Stopped => "starting",
    }
}

/// The events at which an index was applied for the first time.
fn committed<'a>(events: &[&'a Event]) -> Vec<(usize, &'a Event)> {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut first = Vec::new();
    for (number, event) in events.iter().enumerate() {
        let Detail::Index(index) = event.detail else { continue };
        let datacenter = event.subject.split('-').next().unwrap_or_default();
        let newest = newest.entry(datacenter).or_default();
        if index > *newest {
            *newest = index;
            first.push((number, *event));
        }
    }
    first
}

fn pair<'a>((number, event): (usize, &&'a Event)) -> (usize, &'a Event) {
    (number, *event)
}

/// A bar for each second with its number of events; it stands for the first of them.
fn bars(name: &str, what: &'static str, events: &[(usize, &Event)]) -> Lane {
    let mut seconds: BTreeMap<u64, (usize, u64)> = BTreeMap::new();
    for (number, event) in events {
        seconds.entry(event.at / SECOND).or_insert((*number, 0)).1 += 1;
    }
    let most = seconds.values().map(|(_, count)| *count).max().unwrap_or(1);
    let shapes = seconds.into_iter().map(|(second, (event, count))| {
        let form = Form::Bar { from: second * SECOND, percent: (count * 100).div_ceil(most) };
        Shape { row: 0, form, class: "bar", label: format!("{count}"), event }
    });
    Lane { name: name.into(), what, rows: 1, shapes: shapes.collect() }
}

fn ticks(name: &str, what: &'static str, events: &[&Event], class: impl Fn(&Event) -> Option<&'static str>) -> Lane {
    let shapes = events.iter().enumerate().filter_map(|(number, event)| {
        let class = class(event)?;
        let form = Form::Tick { at: event.at };
        Some(Shape { row: 0, form, class, label: String::new(), event: number })
    });
    Lane { name: name.into(), what, rows: 1, shapes: shapes.collect() }
}
