//! What the demo says at its end.

use std::fmt::Write as _;

use anyhow::Result;
use greenroom_model::{Build, BuildRequest, Query, Results};

use crate::lifecycle::Running;

/// Builds run, their results, and how long things took.
pub async fn of(master: &Running) -> Result<String> {
    let ro = master.ro();
    let builds = ro.list::<Build>(Query::default().eq("complete", true)).await?.value;
    let requests = ro.list::<BuildRequest>(Query::default()).await?.value;
    let running = ro.hot().running_builds().count();
    let mut out = format!("{} builds ended", builds.items.len());
    for result in Results::ALL {
        let count = builds.items.iter().filter(|b| b.results == Some(result)).count();
        if count > 0 {
            write!(out, ", {count} {result}")?;
        }
    }
    if running > 0 {
        write!(out, "; {running} still ran")?;
    }
    let mut waits: Vec<i64> = requests
        .items
        .iter()
        .filter_map(|r| r.claimed_at.map(|at| at.micros_since(r.submitted_at)))
        .collect();
    let mut took: Vec<i64> =
        builds.items.iter().filter_map(|b| b.complete_at.map(|at| at.micros_since(b.started_at))).collect();
    waits.sort_unstable();
    took.sort_unstable();
    write!(out, "\nrequest to start: {}", spread(&waits))?;
    write!(out, "\nbuild:            {}", spread(&took))?;
    Ok(out)
}

/// `p50 3.1 ms, p95 8.0 ms, most 9.2 ms`.
fn spread(sorted_micros: &[i64]) -> String {
    let at =
        |percent: usize| sorted_micros.get((sorted_micros.len().saturating_sub(1)) * percent / 100).copied();
    match (at(50), at(95), at(100)) {
        (Some(p50), Some(p95), Some(most)) => {
            format!("p50 {}, p95 {}, most {}", time(p50), time(p95), time(most))
        }
        _ => "none".to_owned(),
    }
}

fn time(micros: i64) -> String {
    if micros < 1_000_000 {
        format!("{:.1} ms", micros as f64 / 1e3)
    } else {
        format!("{:.1} s", micros as f64 / 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_names_the_middle_and_the_ends() {
        assert_eq!(spread(&[1_000, 2_000, 3_500_000]), "p50 2.0 ms, p95 2.0 ms, most 3.5 s");
        assert_eq!(spread(&[]), "none");
    }
}
