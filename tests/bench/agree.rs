//! `bench agree`: the same scenarios with real TCP and in virtual time, side by side.
//!
//! Both run the same world (the laboratory's distance, the same seeds), and both are judged by the
//! same code. What differs afterwards is what the simulator does not know of the kernel or of the
//! daemon; `docs/judgement.md` says what that is.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use lab::{
    signal,
    simulator::{
        run::{self, Outcome},
        scenario::{Break, Scenario},
    },
    staged,
};

use crate::{
    judge::{self, row::Row},
    report::{machine, progress, progress_done},
};
use compare::Pair;

#[path = "agree/compare.rs"]
mod compare;
#[path = "agree/page.rs"]
mod page;

/// What is compared when nothing is asked for.
const COMPARED: [&str; 3] = ["blackhole", "loss-30", "mtu"];
/// A fault that is not found ends after this, even when the file lets it last longer.
const LONGEST: Duration = Duration::from_secs(60);

/// Compare laboratory and simulator
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs of each scenario in the laboratory, a quarter of a minute each
    #[arg(long, default_value_t = 20)]
    runs: u64,
    /// Runs of each scenario in the simulator
    #[arg(long, default_value_t = 2000)]
    simulated: u64,
    /// This scenario of tests/scenarios/, as often as it is given; black hole, loss and mtu without it
    #[arg(long)]
    scenario: Vec<String>,
    /// Run a scenario once in each, from this seed, and tell what came of it
    #[arg(long, requires = "scenario")]
    seed: Option<u64>,
    /// Fill in the measured part of docs/judgement.md and draw its picture
    #[arg(long, conflicts_with_all = ["scenario", "seed"])]
    write: bool,
}

/// Runs everything; whether all that the files expect has been met in both.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let mut names: Vec<_> = options.scenario.iter().map(String::as_str).collect();
    if names.is_empty() {
        names.extend(COMPARED);
    }
    // All of them first: a refusal comes before an hour of runs, not after it.
    let scenarios: Vec<_> = names
        .into_iter()
        .map(|name| staged::adapted(&Scenario::named(name)?))
        .collect::<Result<_>>()?;
    let mut pairs = Vec::new();
    for scenario in &scenarios {
        let broken = scenario.fault.as_ref().with_context(|| {
            let name = &scenario.name;
            format!("{name} has no fault, and so there is no time until it is found")
        })?;
        if let Some(seed) = options.seed {
            println!(
                "laboratory: {:#?}",
                in_the_laboratory(scenario, broken, seed)?
            );
            println!("simulator: {:#?}", in_the_simulator(scenario, broken, seed));
            continue;
        }
        pairs.push(measure(scenario, broken, options)?);
    }
    if pairs.is_empty() {
        return Ok(true);
    }
    println!("agree: {}; {}\n", distance(), machine());
    compare::print(&pairs);
    if options.write {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
        page::write(&pairs, &distance(), &docs)?;
    }
    Ok(pairs.iter().all(Pair::is_met))
}

/// The one thing in which both differ from the files.
fn distance() -> String {
    format!(
        "round trips of {} ms in both, whatever the files say",
        staged::ROUND_TRIP as f64 / 1e6
    )
}

fn measure(scenario: &Scenario, broken: &Break, options: &Options) -> Result<Pair> {
    ensure!(
        options.runs > 0,
        "nothing is compared in no run: give --runs"
    );
    let mut outcomes = Vec::new();
    for seed in 0..options.runs {
        let outcome = in_the_laboratory(scenario, broken, seed)
            .with_context(|| format!("{}, seed {seed}", scenario.name))?;
        progress(&format!(
            "{}: run {} of {} in the laboratory: found after {:.2} s, called {}",
            scenario.name,
            seed + 1,
            options.runs,
            outcome.found.unwrap_or(f64::NAN),
            outcome.cause_later.map_or("nothing", |cause| cause.word()),
        ));
        outcomes.push(outcome);
    }
    progress_done();
    let one = |seed| in_the_simulator(scenario, broken, seed);
    let simulated = judge::spread(&scenario.name, options.simulated, one, |_| 1)?;
    Ok(Pair {
        laboratory: Row::of_outcomes(scenario, outcomes),
        simulator: Row::of_outcomes(scenario, simulated),
    })
}

fn in_the_laboratory(scenario: &Scenario, broken: &Break, seed: u64) -> Result<Outcome> {
    signal::check()?;
    staged::with_fault(scenario, broken, seed, LONGEST)
}

fn in_the_simulator(scenario: &Scenario, broken: &Break, seed: u64) -> Outcome {
    run::after(staged::WARM_UP, scenario, broken, seed, false)
}
