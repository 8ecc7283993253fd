//! `GET /v1/agent/metrics`: what `/metrics` shows, in the form in which Consul's agents answer it. Consul's are of the last ten seconds,
//! these of the time since the start; what a histogram does not know (its least, its greatest, its deviation) is left out.

use std::collections::BTreeMap;

use axum::response::Response;
use carrack_authority::time::Timestamp;
use serde::Serialize;

use super::{
    answer::Answer,
    error::HttpError,
    health::{metrics_answer, metrics_text},
    parameters::Parameters,
};
use crate::telemetry::{
    exposition::{self, Line},
    metrics::Metrics,
};

type Labels = BTreeMap<String, String>;

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct All {
    timestamp: String,
    gauges: Vec<GaugeEntry>,
    points: [(); 0],
    counters: Vec<CounterEntry>,
    samples: Vec<SampleEntry>,
}

#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct GaugeEntry {
    name: String,
    value: f64,
    labels: Labels,
}

/// Each increment is one.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct CounterEntry {
    name: String,
    count: f64,
    sum: f64,
    min: f64,
    max: f64,
    mean: f64,
    stddev: f64,
    labels: Labels,
}

#[derive(Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "PascalCase")]
struct SampleEntry {
    name: String,
    count: f64,
    sum: f64,
    mean: f64,
    labels: Labels,
}

/// The answer from these metrics: in Consul's form, or with `format=prometheus` as `/metrics`.
pub(super) fn answer(metrics: &Metrics, now: Timestamp, parameters: &Parameters) -> Result<Response, HttpError> {
    match parameters.text("format") {
        None => {}
        Some("prometheus") => return metrics_answer(metrics, now),
        Some(other) => {
            let other = other.escape_default();
            return Err(HttpError::BadRequest(format!(
                "Invalid format `{other}`: leave it out for JSON, or write prometheus"
            )));
        }
    }
    let text = metrics_text(metrics, now)?;
    let lines = exposition::lines(&text);
    let lines = lines.map_err(|line| HttpError::Internal(format!("the metrics cannot be read back: `{line}`")))?;
    Ok(Answer::json(&all(&lines, now), parameters.is_pretty)?.into_response())
}

fn all(lines: &[Line<'_>], now: Timestamp) -> All {
    let (mut gauges, mut counters, mut samples) = (Vec::new(), Vec::new(), BTreeMap::new());
    for line in lines {
        let (labels, value) = (line.labels.clone(), line.value);
        match line.kind {
            "counter" => counters.push(counter(line)),
            "histogram" => add(&mut samples, line),
            _ => gauges.push(GaugeEntry { name: format!("{}{}", line.metric, line.suffix), value, labels }),
        }
    }
    All { timestamp: in_gos_form(now), gauges, points: [], counters, samples: samples.into_values().collect() }
}

fn counter(line: &Line<'_>) -> CounterEntry {
    let (count, labels) = (line.value, line.labels.clone());
    let each = if count > 0.0 { 1.0 } else { 0.0 };
    CounterEntry { name: line.metric.into(), count, sum: count, min: each, max: each, mean: each, stddev: 0.0, labels }
}

fn add(samples: &mut BTreeMap<(String, Labels), SampleEntry>, line: &Line<'_>) {
    if line.suffix == "_bucket" {
        return;
    }
    let (name, labels) = (line.metric.to_owned(), line.labels.clone());
    let entry = samples.entry((name.clone(), labels.clone()));
    let entry = entry.or_insert_with(|| SampleEntry { name, labels, ..SampleEntry::default() });
    match line.suffix {
        "_count" => entry.count = line.value,
        _ => entry.sum = line.value,
    }
    entry.mean = if entry.count > 0.0 { entry.sum / entry.count } else { 0.0 };
}

/// As Go prints a time: `2017-08-08 02:55:10 +0000 UTC`.
fn in_gos_form(now: Timestamp) -> String {
    let text = Timestamp::from_seconds(now.seconds()).to_string();
    text.replace('T', " ").replace('Z', " +0000 UTC")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::telemetry::labels::IssuanceOutcome;

    #[test]
    fn every_value_of_the_registry_is_in_consuls_form() {
        let metrics = Metrics::new();
        metrics.count_issuance(IssuanceOutcome::Recorded);
        metrics.count_issuance(IssuanceOutcome::Recorded);
        metrics.observe_sign(Duration::from_millis(2));
        metrics.observe_sign(Duration::from_millis(4));
        metrics.show_log_bytes(12);
        let now = Timestamp::from_seconds(1_502_160_910);
        let text = metrics_text(&metrics, now).unwrap();
        let all = all(&exposition::lines(&text).unwrap(), now);
        assert_eq!(all.timestamp, "2017-08-08 02:55:10 +0000 UTC");
        let bytes = GaugeEntry { name: "carrack_log_bytes".into(), value: 12.0, labels: Labels::new() };
        assert!(all.gauges.contains(&bytes));
        let recorded = Labels::from([("outcome".to_owned(), "recorded".to_owned())]);
        let found = all.counters.iter().find(|one| one.labels == recorded && one.name == "carrack_issuances").unwrap();
        assert_eq!((found.count, found.sum, found.mean), (2.0, 2.0, 1.0));
        let sign = all.samples.iter().find(|sample| sample.name == "carrack_sign_seconds").unwrap();
        assert_eq!(sign.count, 2.0);
        assert!((sign.mean - 0.003).abs() < 1e-9, "{}", sign.mean);
    }
}
