//! Fuzzing of what strangers send: the workspace in `fuzz/`. Its targets are functions, which the gate runs with their seeds
//! and without an engine; libFuzzer runs them for as long as one likes. Stable Rust does: that a program tells libFuzzer
//! which of its branches it took is a matter of LLVM. See docs/adr/0008.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, bail};
use xtask_programs::{process, workspace};

const MANIFEST: &str = "fuzz/Cargo.toml";
const SEEDS: &str = "fuzz/seeds";

/// The flags with which cargo-fuzz builds, but for the sanitizer: our code is safe.
const COVERAGE: &[&str] = &[
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Ccodegen-units=1",
];

/// Longest that one input may take, in seconds, and the most memory, in MiB.
const TIMEOUT: u32 = 25;
const MEMORY: u32 = 2048;

/// The gate: no warnings, and every target with its seeds and what is near them. Needs no C++.
pub(crate) fn check() -> Result<()> {
    let fuzz = ["--manifest-path", MANIFEST, "--locked", "--no-default-features"];
    let target = workspace::target();
    let cargo = |first: &[&str], last: &[&str]| {
        let mut command = workspace::cargo();
        process::run(command.args(first).args(fuzz).arg("--target-dir").arg(&target).args(last))
    };
    process::run(workspace::cargo().args(["fmt", "--manifest-path", MANIFEST, "--check"]))?;
    cargo(&["clippy", "--all-targets"], &["--", "-D", "warnings"])?;
    cargo(&["test", "--lib"], &[])
}

/// Runs each target for so many seconds, also after one has failed, and says which did.
pub(crate) fn run(seconds: u32) -> Result<()> {
    let host = host()?;
    let target = workspace::target().join("fuzz");
    let mut build = workspace::cargo();
    build.args(["build", "--release", "--locked", "--manifest-path", MANIFEST, "--bins", "--target", &host]);
    build.arg("--target-dir").arg(&target).env("RUSTFLAGS", COVERAGE.join(" "));
    process::run(&mut build).context("libFuzzer is C++: is there a compiler for it, such as g++?")?;
    let mut failed = Vec::new();
    for name in targets()? {
        let corpus = target.join("corpus").join(&name);
        fs::create_dir_all(&corpus)?;
        let mut command = Command::new(target.join(&host).join("release").join(&name));
        command.arg(&corpus).arg(workspace::root().join(SEEDS).join(&name));
        command.args([
            format!("-max_total_time={seconds}"),
            format!("-timeout={TIMEOUT}"),
            format!("-rss_limit_mb={MEMORY}"),
            format!("-artifact_prefix={}/{name}-", target.display()),
            "-print_final_stats=1".to_owned(),
        ]);
        let log = target.join(format!("{name}.log"));
        command.stderr(fs::File::create(&log)?);
        eprintln!("--- {name}: {seconds} s, told in {}", log.display());
        let passed = command.status()?.success();
        for line in fs::read_to_string(&log)?.lines().filter(|line| is_news(line, passed)) {
            eprintln!("    {line}");
        }
        if !passed {
            failed.push(name);
        }
    }
    if !failed.is_empty() {
        bail!("faults found by {}: run the program again with the file that it wrote", failed.join(", "));
    }
    Ok(())
}

/// What of a log is of interest.
fn is_news(line: &str, passed: bool) -> bool {
    let begins: &[&str] = match passed {
        true => &["Done", "stat::number_of_executed_units"],
        false => &["thread", "assertion", "SUMMARY", "Test unit written", "artifact_prefix"],
    };
    begins.iter().any(|begin| line.trim_start().starts_with(begin))
}

fn targets() -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir(workspace::root().join(SEEDS))? {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// With the host named as target, what runs while building is built without [`COVERAGE`].
fn host() -> Result<String> {
    let told = process::output(Command::new("rustc").arg("-vV"))?;
    let host = told.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc names no host")?.to_owned())
}
