//! Rules that no compiler checks: who may use whom, what the core must not touch, how long things may be, and words
//! that have no place in finished code.

use std::fmt;
use std::fs;
use std::process::Command;

use anyhow::{Result, bail};

use xtask_programs::{process, workspace};

mod circles;
mod edges;
mod lengths;
mod measures;
mod promises;
mod words;

/// A broken rule and where it is broken.
#[derive(Debug, PartialEq, Eq)]
struct Finding {
    file: String,
    line: usize,
    message: String,
}

impl Finding {
    fn new(file: &str, line: usize, message: impl Into<String>) -> Self {
        Self { file: file.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: {}", self.file, self.line, self.message)
    }
}

/// Checks every file that git knows or would add, and prints the measures and what it finds.
pub(crate) fn run() -> Result<()> {
    let mut findings = edges::check()?;
    let (mut code, mut documents) = (Vec::new(), Vec::new());
    for file in files()? {
        // A picture is no text and breaks no rule; a file deleted but not yet committed neither.
        let Ok(text) = fs::read_to_string(workspace::root().join(&file)) else { continue };
        findings.extend(words::check(&file, &text));
        if file.ends_with(".rs") {
            findings.extend(lengths::check(&file, &text));
            code.push((file, text));
        } else if promises::DOCUMENTS.contains(&file.as_str()) {
            documents.push((file, text));
        }
    }
    findings.extend(circles::check(&code));
    findings.extend(promises::check(&documents, &code));
    let (table, broken) = measures::check(&code);
    findings.extend(broken);
    print!("{table}");
    for finding in &findings {
        println!("{finding}");
    }
    match findings.len() {
        0 => Ok(()),
        count => bail!("{count} broken rules"),
    }
}

fn files() -> Result<Vec<String>> {
    let mut git = Command::new("git");
    git.current_dir(workspace::root());
    let listing = process::output(git.args(["ls-files", "--cached", "--others", "--exclude-standard"]))?;
    Ok(listing.lines().map(str::to_owned).collect())
}

/// Is the file made of tests only? A contract is tests that others run, too.
fn is_test(file: &str) -> bool {
    let mut parts = file.split('/');
    let contract = |part: &str| part.trim_end_matches(".rs").ends_with("_contract");
    file.ends_with("/tests.rs") || parts.any(|part| part == "tests" || contract(part))
}
