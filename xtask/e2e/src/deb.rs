//! The Debian package of the daemon: the program, its unit, its user, completions and manual pages.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use xtask_programs::{process, workspace};

use crate::tools;

/// How the program in it is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    /// To install.
    Release,
    /// To look at the package.
    Debug,
}

impl Profile {
    /// What cargo takes for it, and where it puts what it builds.
    fn names(self) -> (&'static str, &'static str) {
        match self {
            Self::Release => ("release", "release"),
            Self::Debug => ("dev", "debug"),
        }
    }
}

/// Shells, and how each calls the file with its completions.
const SHELLS: [(&str, &str); 3] =
    [("bash", "payjoind.bash"), ("zsh", "_payjoind"), ("fish", "payjoind.fish")];

/// Builds the program and the package. Says where the package is.
pub(crate) fn build(profile: Profile) -> Result<PathBuf> {
    let cargo_deb = tools::cargo_deb()?;
    let (name, folder) = profile.names();
    process::run(workspace::cargo().args(["build", "--locked", "--package", "payjoind", "--profile", name]))?;
    let folder = workspace::target().join(folder);
    generate(&folder.join("payjoind"), &folder.join("deb"))?;
    let mut packing = Command::new(cargo_deb);
    packing.current_dir(workspace::root()).args(["--no-build", "--package", "payjoind", "--profile", name]);
    // With the name of a package that is built for a machine of this kind.
    let printed = process::output(packing.arg("--output").arg(workspace::target().join("debian/")))?;
    let path = printed.lines().last().context("cargo-deb names no package")?;
    Ok(PathBuf::from(path.trim()))
}

/// What the program writes about itself.
fn generate(payjoind: &Path, into: &Path) -> Result<()> {
    let manual = into.join("man");
    fs::create_dir_all(&manual)?;
    for (shell, name) in SHELLS {
        let script = process::output(Command::new(payjoind).args(["completions", shell]))?;
        fs::write(into.join(name), script)?;
    }
    process::output(Command::new(payjoind).arg("man").arg(&manual)).map(drop)
}
