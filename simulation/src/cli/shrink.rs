//! `shrink`: the fewest faults of a failing seed that still make it fail, by halving (Zeller's delta debugging, ddmin).

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use clap::Args;
use futures::StreamExt;

use super::{Numbers, describe, one::One, progress::say, runner, saved};

/// The most worlds that are run for it.
const TRIES_MAX: usize = 400;

/// What is shrunk.
#[derive(Debug, Args)]
pub(super) struct Shrink {
    #[command(flatten)]
    one: One,
    /// Write the smallest world to this file
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
}

impl Shrink {
    pub(super) fn run(&self) -> anyhow::Result<bool> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(shrink(&self.one, self.save.as_deref()))
    }
}

async fn shrink(one: &One, save: Option<&Path>) -> anyhow::Result<bool> {
    let whole = runner::run_one(one.clone()).await?;
    let Some(violation) = whole.report.violations.first() else {
        say(&format!("seed {} does not fail: there is nothing to shrink", one.seed));
        return Ok(true);
    };
    let wanted = violation.invariant.clone();
    let mut numbers: Vec<usize> = one.scenario().plan.iter().map(|planned| planned.number).collect();
    say(&format!("seed {}: {wanted}, with {} faults", one.seed, numbers.len()));
    let (mut parts, mut tries) = (1, 0);
    while !numbers.is_empty() && tries < TRIES_MAX {
        let candidates = candidates(&numbers, parts);
        tries += candidates.len();
        match first_failing(one, &wanted, candidates).await? {
            Some(smaller) => {
                parts = parts.saturating_sub(1).clamp(1, smaller.len().max(1));
                numbers = smaller;
                say(&format!("  {} faults are enough", numbers.len()));
            }
            None if parts >= numbers.len() => break,
            None => parts = (parts * 2).min(numbers.len()),
        }
    }
    let least = One { only: Some(Numbers(numbers.into_iter().collect())), ..one.clone() };
    let ran = runner::run_one(least.clone()).await?;
    say(&describe::failure(&least, &ran.report));
    if let Some(path) = save {
        let texts =
            ran.report.violations.iter().map(|violation| format!("{}: {}", violation.invariant, violation.text));
        saved::write(path, &least, &texts.collect::<Vec<_>>().join("; "), &describe::commit())?;
    }
    Ok(false)
}

/// The numbers without each of so many parts, and with none at all at first.
fn candidates(numbers: &[usize], parts: usize) -> Vec<Vec<usize>> {
    if parts == 1 {
        let half = numbers.len() / 2;
        return vec![Vec::new(), numbers[..half].to_vec(), numbers[half..].to_vec()];
    }
    let size = numbers.len().div_ceil(parts);
    let without = |part: usize| {
        let dropped = part * size..((part + 1) * size).min(numbers.len());
        numbers
            .iter()
            .enumerate()
            .filter(|(position, _)| !dropped.contains(position))
            .map(|(_, number)| *number)
            .collect()
    };
    (0..numbers.len().div_ceil(size)).map(without).collect()
}

/// The first of the candidates, in their order, that fails in the same way.
async fn first_failing(one: &One, wanted: &str, candidates: Vec<Vec<usize>>) -> anyhow::Result<Option<Vec<usize>>> {
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let worlds = candidates
        .into_iter()
        .map(|numbers| One { only: Some(Numbers(numbers.into_iter().collect::<BTreeSet<_>>())), ..one.clone() });
    let mut results = std::pin::pin!(runner::run(worlds, jobs));
    while let Some(ran) = results.next().await {
        let ran = ran?;
        if ran.report.violations.iter().any(|violation| violation.invariant == wanted) {
            return Ok(ran.one.only.map(|only| only.0.into_iter().collect()));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_leave_out_every_part_once() {
        assert_eq!(candidates(&[1, 2, 3, 4], 2), [vec![3, 4], vec![1, 2]]);
        assert_eq!(candidates(&[1, 2, 3], 3), [vec![2, 3], vec![1, 3], vec![1, 2]]);
        assert_eq!(candidates(&[5, 6, 7], 1), [vec![], vec![5], vec![6, 7]]);
    }
}
