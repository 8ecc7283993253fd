//! `carrack-simulation`.

use carrack_simulation::{scenario::Scenario, trace::Keep, world::World};

fn main() {
    let seed = std::env::args().nth(1).and_then(|text| text.parse().ok()).unwrap_or(1);
    let started = std::time::Instant::now();
    let report = World::build(Scenario::derive(seed), Keep::Last).run();
    println!("{} {:?}", serde_json::to_string(&report).unwrap(), started.elapsed());
}
