//! Payers of other projects: their packages at pinned versions, with small programs of ours that pay by them. What is
//! missing is told with how to get it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use xtask_programs::{process, workspace};

/// How such a program is run.
pub(crate) struct Payer {
    pub(crate) interpreter: PathBuf,
    /// The program.
    pub(crate) pay: PathBuf,
    /// The variable by which it is told of a certificate, a PEM file.
    pub(crate) certificate: &'static str,
}

impl Payer {
    pub(crate) const NO_JS: &str =
        "Node.js: install Node.js 20 or later so that `node` and `npm` are on PATH";
    pub(crate) const NO_PYTHON: &str =
        "Python: install Python 3 with its venv so that `python3` is on PATH, on Linux on x86-64";

    /// The npm package payjoin-client, where Node.js is found.
    pub(crate) fn js() -> Result<Option<Self>> {
        let (Some(interpreter), Some(npm)) = (process::on_path("node"), process::on_path("npm")) else {
            return Ok(None);
        };
        let folder = install("js", &["package.json", "package-lock.json"], "pay.js", |folder| {
            let quiet = ["--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"];
            process::output(Command::new(&npm).current_dir(folder).arg("ci").args(quiet)).map(drop)
        })?;
        let certificate = "NODE_EXTRA_CA_CERTS";
        Ok(Some(Self { interpreter, pay: folder.join("pay.js"), certificate }))
    }

    /// The PyPI package payjoin, where Python is found and the package has a library for this machine.
    pub(crate) fn python() -> Result<Option<Self>> {
        let suits = cfg!(all(target_os = "linux", target_arch = "x86_64"));
        let Some(python) = process::on_path("python3").filter(|_| suits) else { return Ok(None) };
        let lists = ["build-requirements.txt", "requirements.txt"];
        let folder = install("python", &lists, "pay.py", |folder| {
            process::output(Command::new(&python).args(["-m", "venv", "--clear"]).arg(folder.join("venv")))?;
            for list in lists {
                let mut pip = Command::new(folder.join("venv/bin/python"));
                pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
                pip.args(["--no-deps", "--no-build-isolation", "--require-hashes", "--requirement"]);
                process::output(pip.arg(folder.join(list)))?;
            }
            Ok(())
        })?;
        let interpreter = folder.join("venv/bin/python");
        Ok(Some(Self { interpreter, pay: folder.join("pay.py"), certificate: "SSL_CERT_FILE" }))
    }
}

/// Installs what `lists` name into a folder under target/payers, unless it was, and puts the program beside it.
fn install(
    name: &str,
    lists: &[&str],
    program: &str,
    run: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    let source = workspace::root().join("xtask/e2e/payers").join(name);
    let folder = workspace::target().join("payers").join(name);
    let _lock = process::lock(&folder.join("lock"))?;
    fs::copy(source.join(program), folder.join(program))?;
    let mut wanted = Vec::new();
    for list in lists {
        fs::copy(source.join(list), folder.join(list))?;
        wanted.extend(fs::read(source.join(list))?);
    }
    let record = folder.join("installed-from");
    if !fs::read(&record).is_ok_and(|installed| installed == wanted) {
        eprintln!("installing a payer for {name} (seconds, once)");
        run(&folder).with_context(|| format!("cannot install the payer for {name}"))?;
        fs::write(record, wanted)?;
    }
    Ok(folder)
}
