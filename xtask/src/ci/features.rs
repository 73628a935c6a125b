//! Everything builds, without a warning, with none of its features and with each alone.

use std::time::Instant;

use anyhow::{Result, ensure};

use super::cargo;
use crate::metadata::{self, Package};

/// Their features choose what is there: their unit tests run with each alone. Elsewhere a feature only adds to what is
/// tested with all of them.
const CHOSEN_FROM: &[&str] = &["payjoin-core", "payjoin-io", "payjoin-lightning"];

/// The second has no feature that it does not hand on to the first: one look for both.
const TOGETHER: (&str, &str) = ("payjoin-node", "payjoind");

pub(super) fn check() -> Result<()> {
    let mut packages = metadata::packages(&metadata::read(false)?);
    // What has no features and is nobody's to choose from is as it is by default.
    packages.retain(|package| package.is_published || package.features().next().is_some());
    let features =
        |name| packages.iter().find(|package| package.name == name).map(|p| p.features().collect());
    let (first, second): (Option<Vec<_>>, Option<Vec<_>>) = (features(TOGETHER.0), features(TOGETHER.1));
    ensure!(first == second, "{} and {} have different features", TOGETHER.0, TOGETHER.1);
    packages.retain(|package| package.name != TOGETHER.1);
    for package in packages {
        for choice in package.choices() {
            let start = Instant::now();
            look_at(&package, &choice.join(","))?;
            let features = if choice.is_empty() { "no feature".to_owned() } else { choice.join(", ") };
            eprintln!("    {} with {features}: {:.0} s", package.name, start.elapsed().as_secs_f32());
        }
    }
    Ok(())
}

fn look_at(package: &Package, features: &str) -> Result<()> {
    let name = &package.name;
    let mut chosen =
        vec!["--quiet", "--locked", "--no-default-features", "--features", features, "--package", name];
    if name == TOGETHER.0 {
        chosen.extend(["--package", TOGETHER.1]);
    }
    cargo(&[&["clippy", "--all-targets"], &chosen[..], &["--", "-D", "warnings"]].concat())?;
    if CHOSEN_FROM.contains(&name.as_str()) {
        cargo(&[&["test", "--lib"], &chosen[..]].concat())?;
    }
    Ok(())
}
