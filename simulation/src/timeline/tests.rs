//! Tests of `timeline`.

use carrack_raft::Role;

use super::*;
use crate::trace::{Detail, Event, Keep, Kind, Life};

const SECOND: u64 = 1_000_000;

fn event(at: u64, subject: &str, kind: Kind, detail: Detail, text: &str) -> Event {
    Event { at, subject: subject.into(), kind, text: text.into(), detail }
}

fn small() -> Trace {
    let links = vec![("dc1-a".to_owned(), "dc1-b".to_owned()), ("dc1-b".to_owned(), "dc1-a".to_owned())];
    let partition = Detail::Began { number: 3, class: "partition", hosts: Vec::new(), links, lasts: true };
    let hosts = vec!["dc1-a".to_owned()];
    let slow = Detail::Began { number: 4, class: "slow disk", hosts, links: Vec::new(), lasts: true };
    let mut trace = Trace::new(Keep::All);
    for event in [
        event(0, "dc1-a", Kind::Process, Detail::Life(Life::Starting), "starts <script>alert('&')</script>"),
        event(SECOND, "dc1-a", Kind::Process, Detail::Life(Life::Serving), "serves"),
        event(2 * SECOND, "dc1-a", Kind::Leader, Detail::Role(Role::Leader, 7), "leads \"in\" term 7"),
        event(3 * SECOND, "world", Kind::Fault, partition, "3: partition: dc1-a>dc1-b dc1-b>dc1-a"),
        event(3 * SECOND, "world", Kind::Fault, slow, "4: slow disk"),
        event(4 * SECOND, "dc1-a", Kind::Applied, Detail::Index(9), "9: 1 outcomes"),
        event(4 * SECOND, "client-0", Kind::Issued, Detail::None, "leaf"),
        event(5 * SECOND, "client-0", Kind::Handshake, Detail::Failed, "no\u{7}"),
        event(6 * SECOND, "world", Kind::Heal, Detail::Ended(3), "3: ends"),
        event(7 * SECOND, "dc1-a", Kind::Process, Detail::Life(Life::Refused), "refuses to start: <bad>"),
        event(8 * SECOND, "world", Kind::Mark, Detail::None, "a mark"),
        event(9 * SECOND, "world", Kind::Violation, Detail::None, "join_is_once: twice"),
    ] {
        trace.add(event);
    }
    trace
}

#[test]
fn every_event_is_in_the_page_with_its_text_escaped() {
    let trace = small();
    let page = render(&Scenario::derive(1), &Report::none(1), &trace);
    for (number, event) in trace.kept().enumerate() {
        let line = escape(&event.to_string());
        assert!(page.contains(&format!("<li id=\"e{number}\" class=\"{}\">{line}</li>", event.kind.name())), "{line}");
    }
    assert!(page.contains("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;") && !page.contains("<script>alert"));
    assert!(!page.contains('\u{7}') && !page.contains("http://") && !page.contains("https://"));
}

#[test]
fn the_lanes_show_roles_faults_from_begin_to_end_links_and_flags() {
    let trace = small();
    let events: Vec<_> = trace.kept().collect();
    let lanes = lanes::lanes(&events, 10 * SECOND);
    let lane = |name: &str| lanes.iter().find(|lane| lane.name == name).unwrap();
    let drawn = |name: &str| {
        let shapes = lane(name).shapes.iter();
        shapes.map(|shape| format!("{:?} {} {}", shape.form, shape.class, shape.label)).collect::<Vec<_>>()
    };
    assert_eq!(
        drawn("dc1-a"),
        [
            "Span { from: 0, to: 1000000 } starting ",
            "Span { from: 1000000, to: 2000000 } serving ",
            "Span { from: 2000000, to: 7000000 } leader 7",
            "Tick { at: 7000000 } bad ",
            "Strip { from: 3000000, to: 10000000 } fault ",
        ]
    );
    assert_eq!(
        drawn("faults"),
        [
            "Span { from: 3000000, to: 6000000 } link 3 partition",
            "Span { from: 3000000, to: 10000000 } fault 4 slow disk"
        ]
    );
    assert_eq!(lane("faults").rows, 2);
    assert_eq!(drawn("links"), ["Span { from: 3000000, to: 6000000 } link a–b"]);
    assert_eq!(drawn("situations"), ["Tick { at: 8000000 } mark ", "Tick { at: 9000000 } violation join_is_once"]);
    assert_eq!(drawn("committed"), ["Bar { from: 4000000, percent: 100 } bar 1"]);
    assert_eq!(drawn("handshakes"), ["Tick { at: 5000000 } bad "]);
}
