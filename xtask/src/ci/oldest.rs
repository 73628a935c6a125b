//! The oldest Rust that a library says it builds with: said in its own manifest, and enough for all that it builds on.
//! That its own code asks for no more is clippy's `incompatible_msrv`.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use anyhow::{Result, bail};
use serde_json::Value;
use xtask_programs::{process, workspace};

use crate::metadata::{self, Package};

pub(super) fn check() -> Result<()> {
    let metadata = metadata::read(true)?;
    let needs = needs(&metadata);
    let mut errors = Vec::new();
    for package in metadata::packages(&metadata::read(false)?).iter().filter(|package| package.is_published) {
        errors.extend(look_at(package, &needs)?);
    }
    for error in &errors {
        eprintln!("error: {error}");
    }
    if !errors.is_empty() {
        bail!("{} wrong versions of Rust", errors.len());
    }
    Ok(())
}

fn look_at(package: &Package, needs: &BTreeMap<String, &str>) -> Result<Vec<String>> {
    let Package { name, manifest, .. } = package;
    let text: toml::Table = fs::read_to_string(workspace::root().join(manifest))?.parse()?;
    let Some(ours) = package.rust_version.as_deref().filter(|_| text["package"]["rust-version"].is_str())
    else {
        return Ok(vec![format!("{manifest} does not say rust-version itself")]);
    };
    let mut tree = workspace::cargo();
    tree.args([
        "tree",
        "--locked",
        "--all-features",
        "--edges=normal,build",
        "--prefix=none",
        "--format={p}",
    ]);
    let tree = process::output(tree.args(["--package", name]))?;
    Ok(too_new(&tree, ours, needs).map(|newer| format!("{name} says Rust {ours}, but {newer}")).collect())
}

/// What each version of a package needs, by `name vX.Y.Z`.
fn needs(metadata: &Value) -> BTreeMap<String, &str> {
    metadata::list(&metadata["packages"])
        .filter_map(|package| {
            let key = format!("{} v{}", package["name"].as_str()?, package["version"].as_str()?);
            Some((key, package["rust_version"].as_str()?))
        })
        .collect()
}

/// The packages of a `cargo tree` listing that need a newer Rust, with which.
fn too_new<'a>(
    tree: &'a str,
    ours: &'a str,
    needs: &'a BTreeMap<String, &str>,
) -> impl Iterator<Item = String> + 'a {
    let keys = tree.lines().map(|line| line.split(' ').take(2).collect::<Vec<_>>().join(" "));
    let keys: BTreeSet<_> = keys.collect();
    keys.into_iter().filter_map(move |key| {
        let need = *needs.get(&key)?;
        (number(need) > number(ours)).then(|| format!("{key} needs {need}"))
    })
}

/// `1.88` and `1.88.0` are the same.
fn number(version: &str) -> Vec<u32> {
    let mut parts: Vec<_> = version.split('.').filter_map(|part| part.parse().ok()).collect();
    parts.resize(3, 0);
    parts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_dependency_that_needs_a_newer_rust_is_named_once() {
        let metadata = json!({ "packages": [
            { "name": "a", "version": "1.0.0", "rust_version": "1.85" },
            { "name": "a", "version": "2.0.0", "rust_version": "1.90.0" },
            { "name": "b", "version": "1.0.0", "rust_version": "1.88.0" },
            { "name": "c", "version": "1.0.0", "rust_version": null },
        ]});
        let needs = needs(&metadata);
        let tree = "ours v0.1.0 (/w/ours)\na v1.0.0\na v2.0.0\nb v1.0.0\nc v1.0.0\na v2.0.0 (*)\n";
        assert_eq!(too_new(tree, "1.88", &needs).collect::<Vec<_>>(), ["a v2.0.0 needs 1.90.0"]);
        assert_eq!(too_new(tree, "1.90", &needs).count(), 0);
    }
}
