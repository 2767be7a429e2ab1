//! `bench judge`: thousands of made-up outages and days of peace through the real engine.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use lab::simulator::{
    Nanos, SECOND,
    run::{self, Outcome, Peace},
    scenario::{self, Scenario},
};

use row::Row;

#[path = "judge/page.rs"]
pub(crate) mod page;
#[path = "judge/picture.rs"]
pub(crate) mod picture;
#[path = "judge/row.rs"]
pub(crate) mod row;
#[path = "judge/table.rs"]
pub(crate) mod table;

/// One run in peace lasts so long.
const PEACE: Nanos = 7200 * SECOND;

/// Judge the judgement
#[derive(Debug, Args)]
pub(crate) struct Options {
    /// Runs of each scenario with a fault
    #[arg(long, default_value_t = 1000)]
    runs: u64,
    /// Days of one upstream that each scenario without a fault lasts
    #[arg(long, default_value_t = 20.0)]
    days: f64,
    /// A tenth of that
    #[arg(long)]
    quick: bool,
    /// Scenarios whose name begins so; all without it
    #[arg(long)]
    scenario: Option<String>,
    /// Run one scenario once, from this seed
    #[arg(long, requires = "scenario")]
    seed: Option<u64>,
    /// Tell what happens in that run
    #[arg(long, requires = "seed")]
    trace: bool,
    /// Fill in the measured part of docs/judgement.md and draw its pictures; with --scenario, only its
    /// rows
    #[arg(long, conflicts_with_all = ["seed", "quick"])]
    write: bool,
    /// Folder with the scenarios
    #[arg(long, default_value = scenario::FOLDER)]
    scenarios: PathBuf,
}

/// Runs everything; whether all expectations are met.
pub(crate) fn run(options: &Options) -> Result<bool> {
    let scenarios = load(&options.scenarios, options.scenario.as_deref())?;
    if let Some(seed) = options.seed {
        for scenario in &scenarios {
            repeat(scenario, seed, options.trace);
        }
        return Ok(true);
    }
    let scale = if options.quick { 0.1 } else { 1.0 };
    let runs = ((options.runs as f64 * scale) as u64).max(1);
    let days = options.days * scale;
    let begun = Instant::now();
    let mut rows = Vec::new();
    for scenario in &scenarios {
        rows.push(measure(scenario, runs, days)?);
    }
    table::print(&rows, begun.elapsed());
    if options.write {
        let docs = Path::new(env!("CARGO_MANIFEST_DIR")).with_file_name("docs");
        match options.scenario {
            None => page::write(&rows, &docs)?,
            Some(_) => page::write_rows(&rows, &docs)?,
        }
    }
    Ok(rows.iter().all(Row::is_met))
}

/// All scenarios of a folder whose names begin with `wanted`, in the order of their names.
fn load(folder: &Path, wanted: Option<&str>) -> Result<Vec<Scenario>> {
    let entries = fs::read_dir(folder).with_context(|| {
        format!(
            "{} cannot be read: name the folder with --scenarios",
            folder.display()
        )
    })?;
    let mut scenarios = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == "toml") {
            scenarios.push(Scenario::read(&path)?);
        }
    }
    scenarios.sort_by(|a, b| a.name.cmp(&b.name));
    let names: Vec<_> = scenarios.iter().map(|it| it.name.clone()).collect();
    if let Some(wanted) = wanted {
        let exact = names.iter().any(|name| name == wanted);
        scenarios.retain(|it| it.name == wanted || (!exact && it.name.starts_with(wanted)));
    }
    ensure!(
        !scenarios.is_empty(),
        "no scenario is called so; expected one of {}",
        names.join(", ")
    );
    Ok(scenarios)
}

/// Runs a scenario once and says what came of it.
fn repeat(scenario: &Scenario, seed: u64, trace: bool) {
    match &scenario.fault {
        Some(broken) => println!("{:#?}", run::with_fault(scenario, broken, seed, trace)),
        None => println!("{:#?}", run::in_peace(scenario, seed, PEACE, trace)),
    }
}

/// Runs a scenario as often as asked.
fn measure(scenario: &Scenario, runs: u64, days: f64) -> Result<Row> {
    let begun = cpu_time();
    let row = match &scenario.fault {
        Some(broken) => {
            let one = |seed| run::with_fault(scenario, broken, seed, false);
            let outcomes = spread(&scenario.name, runs, one, |_: &Outcome| 1)?;
            Row::of_outcomes(scenario, outcomes)
        }
        None => {
            let one = |seed| {
                let peace = run::in_peace(scenario, seed, PEACE, false);
                row::tell(&scenario.name, &peace);
                peace
            };
            let wanted = (days * 86_400.0) as u64;
            let seconds = |peace: &Peace| peace.upstream_seconds as u64;
            Row::of_peace(scenario, spread(&scenario.name, wanted, one, seconds)?)
        }
    };
    Ok(row.took(cpu_time().saturating_sub(begun)))
}

/// Does the same with the seeds from 0 on, on all processors, until the weights add up to `wanted`;
/// the results in the order of the seeds, so that they do not depend on the processors.
pub(crate) fn spread<T: Send>(
    name: &str,
    wanted: u64,
    one: impl Fn(u64) -> T + Sync,
    weight: impl Fn(&T) -> u64 + Sync,
) -> Result<Vec<T>> {
    let bar = progress(name, wanted);
    let next = AtomicU64::new(0);
    let done = Mutex::new((0_u64, Vec::new()));
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..processors {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if done.lock().map_or(true, |done| done.0 >= wanted) || interrupted() {
                        return;
                    }
                    let result = one(seed);
                    let Ok(mut done) = done.lock() else {
                        return;
                    };
                    done.0 += weight(&result);
                    bar.set_position(done.0);
                    done.1.push((seed, result));
                }
            });
        }
    });
    bar.finish_and_clear();
    ensure!(!interrupted(), "interrupted");
    let Ok((_, mut results)) = done.into_inner() else {
        anyhow::bail!("a run of {name} has panicked; its message is above");
    };
    results.sort_by_key(|(seed, _)| *seed);
    // Runs that were under way when enough was reached do not count.
    let mut sum = 0;
    let mut kept = Vec::new();
    for (_, result) in results {
        if sum >= wanted {
            break;
        }
        sum += weight(&result);
        kept.push(result);
    }
    Ok(kept)
}

/// Processor time of all threads of this process so far.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::try_from(time).unwrap_or_default()
}

fn interrupted() -> bool {
    lab::signal::raised()
}

fn progress(name: &str, wanted: u64) -> ProgressBar {
    let bar = ProgressBar::with_draw_target(Some(wanted), ProgressDrawTarget::stderr());
    let style = ProgressStyle::with_template("{msg:32} {wide_bar} {percent:>3} %  {eta:>4} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    if bar.is_hidden() {
        eprintln!("{name}");
    }
    bar.set_message(name.to_owned());
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
