//! payjoin-io without its store beside another Lightning node: both may bring SQLite, and cargo takes only one of it.

use std::fs;

use anyhow::{Context, Result};
use xtask_programs::{process, workspace};

use crate::metadata;

/// Brings an SQLite of another version than ours.
const OTHER_NODE: &str = "ldk-node = \"0.7\"";

/// The feature that brings our SQLite.
const STORE: &str = "sqlite";

/// Asks cargo for the packages of a tiny manifest in a folder of its own. Builds nothing; needs the registry.
pub(super) fn check() -> Result<()> {
    let packages = metadata::packages(&metadata::read(false)?);
    let ours = packages.iter().find(|package| package.name == "payjoin-io").context("no payjoin-io")?;
    let features: Vec<_> = ours.features().filter(|name| *name != STORE).collect();
    let path = workspace::root().join("payjoin-io");
    let folder = workspace::target().join("beside-another-node");
    fs::create_dir_all(folder.join("src"))?;
    fs::write(folder.join("src/lib.rs"), "")?;
    let manifest = format!(
        "[package]\nname = \"beside-another-node\"\nedition = \"2024\"\n\n[workspace]\n\n[dependencies]\n\
         {OTHER_NODE}\npayjoin-io = {{ path = {path:?}, default-features = false, features = {features:?} }}\n"
    );
    fs::write(folder.join("Cargo.toml"), manifest)?;
    let mut metadata = workspace::cargo();
    metadata.current_dir(&folder).args(["metadata", "--format-version=1"]);
    process::output(&mut metadata).map(drop)
}
