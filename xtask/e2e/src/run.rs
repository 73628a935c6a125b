//! Runs end-to-end cases: each in a world of its own, two worlds at a time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Mutex, PoisonError};
use std::time::Instant;
use std::{fs, thread};

use anyhow::{Result, anyhow, bail};

use crate::cases::{self, Case};
use crate::harness::{Need, Programs, World, ledger};

/// A machine with two cores runs two worlds well.
const SIDE_BY_SIDE: usize = 2;

/// Lines of each log shown for a case that failed.
const TAIL: usize = 25;

/// Longest word about a failed case at the end of a run, in characters.
const FIRST_LINE: usize = 300;

/// How a run went.
pub(crate) struct Outcome {
    passed: usize,
    /// Each case with the first line of what went wrong.
    failed: Vec<String>,
    /// Cases for which this machine has not what they need.
    skipped: usize,
}

impl Outcome {
    /// Prints the closing line and turns the outcome into that of the program.
    pub(crate) fn close(&self, may_skip: bool) -> ExitCode {
        println!("{} passed, {} failed, {} skipped", self.passed, self.failed.len(), self.skipped);
        // Again, and last: of a long run often only the end is kept.
        self.failed.iter().for_each(|failed| println!("FAILED  {failed}"));
        if self.failed.is_empty() && (may_skip || self.skipped == 0) {
            ExitCode::SUCCESS
        } else {
            ExitCode::FAILURE
        }
    }
}

/// Prints every case with what it shows.
pub(crate) fn list() {
    for case in cases::all() {
        println!("{:<20} {}", case.name, case.about);
    }
}

/// Runs the named cases, or all of them when no name is given.
pub(crate) fn run(names: &[String]) -> Result<Outcome> {
    let mut chosen = choose(names)?;
    let needs: Vec<Need> = chosen.iter().flat_map(|case| case.needs()).copied().collect();
    let programs = Programs::provide(&needs)?;
    let all = chosen.len();
    chosen.retain(|case| match programs.missing(case.needs()) {
        None => true,
        Some(missing) => {
            eprintln!("skipped {:<20} needs {missing}", case.name);
            false
        }
    });
    let next = Mutex::new(chosen.iter());
    let failed = Mutex::new(Vec::new());
    thread::scope(|scope| {
        if needs.contains(&Need::Tor) {
            // It takes half a minute. The cases that need it see whether it came up.
            scope.spawn(|| programs.tor().map(drop));
        }
        for _ in 0..SIDE_BY_SIDE.min(chosen.len()) {
            scope.spawn(|| {
                while let Some(case) = take(&next) {
                    if let Err(error) = in_a_world(case.name, &programs, case.run) {
                        let error = format!("{:<20} {}", case.name, first_line(&error));
                        failed.lock().unwrap_or_else(PoisonError::into_inner).push(error);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    Ok(Outcome { passed: chosen.len() - failed.len(), failed, skipped: all - chosen.len() })
}

fn choose(names: &[String]) -> Result<Vec<&'static Case>> {
    if names.is_empty() {
        return Ok(cases::all().collect());
    }
    let find = |name: &String| cases::all().find(|case| case.name == name);
    let found =
        names.iter().map(|name| find(name).ok_or_else(|| anyhow!("no case is called {name}; see --list")));
    found.collect()
}

fn take<'a>(queue: &Mutex<impl Iterator<Item = &'a &'static Case>>) -> Option<&'static Case> {
    queue.lock().unwrap_or_else(PoisonError::into_inner).next().copied()
}

/// Runs in a fresh world and folder. The folder stays when the run fails.
pub(crate) fn in_a_world(
    name: &str,
    programs: &Programs,
    run: impl FnOnce(&World<'_>) -> Result<()>,
) -> Result<()> {
    let start = Instant::now();
    let result = tempfile::Builder::new().prefix(&format!("{name}-")).tempdir();
    let result = result.map_err(Into::into).and_then(|dir| {
        attempt(run, programs, dir.path()).map_err(|error| (error, dir.keep())).or_else(|(error, kept)| {
            let tails = tails(&kept);
            bail!("{error:#}\n{tails}    everything is kept in {}", kept.display())
        })
    });
    let seconds = start.elapsed().as_secs_f32();
    match &result {
        Ok(()) => eprintln!("ok      {name:<20} {seconds:5.1} s"),
        Err(error) => eprintln!("FAILED  {name:<20} {seconds:5.1} s\n    {error}"),
    }
    result
}

fn first_line(error: &anyhow::Error) -> String {
    format!("{error:#}").lines().next().unwrap_or_default().chars().take(FIRST_LINE).collect()
}

/// What happens, then the ledger, then the ledger again when everything is buried.
fn attempt(run: impl FnOnce(&World<'_>) -> Result<()>, programs: &Programs, dir: &Path) -> Result<()> {
    let run = || {
        let world = World::new(programs, dir)?;
        run(&world)?;
        ledger::check(&world)?;
        world.settle()?;
        ledger::check_settled(&world)
    };
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|_| bail!("it panicked"))
}

/// The end of every log in a folder.
fn tails(dir: &Path) -> String {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut logs: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    logs.sort();
    let mut text = String::new();
    for log in logs {
        let content = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = content.lines().collect();
        text += &format!("    --- end of {}\n", log.display());
        for line in &lines[lines.len().saturating_sub(TAIL)..] {
            text += &format!("    {line}\n");
        }
    }
    text
}
