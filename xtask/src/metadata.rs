//! What cargo says of the packages of this workspace.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use serde_json::Value;
use xtask_programs::{process, workspace};

/// `cargo metadata` as it is: of our own packages, or of all that they build on.
pub(crate) fn read(with_dependencies: bool) -> Result<Value> {
    let mut command = workspace::cargo();
    command.args(["metadata", "--format-version=1", "--locked"]);
    if !with_dependencies {
        command.arg("--no-deps");
    }
    Ok(serde_json::from_str(&process::output(&mut command)?)?)
}

/// A package of ours.
pub(crate) struct Package {
    pub(crate) name: String,
    /// Below the top folder.
    pub(crate) manifest: String,
    /// A library that others may use, under its name and version.
    pub(crate) is_published: bool,
    pub(crate) rust_version: Option<String>,
    /// Each with what it turns on.
    features: BTreeMap<String, Vec<String>>,
}

/// All packages of the workspace.
pub(crate) fn packages(metadata: &Value) -> Vec<Package> {
    let root = format!("{}/", metadata["workspace_root"].as_str().unwrap_or_default());
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let package = |package: &Value| {
        let manifest = text(&package["manifest_path"]);
        let mut kinds = list(&package["targets"]).flat_map(|target| list(&target["kind"]));
        let features = package["features"].as_object().into_iter().flatten();
        Package {
            name: text(&package["name"]),
            is_published: package["publish"].is_null() && kinds.any(|kind| kind == "lib"),
            rust_version: package["rust_version"].as_str().map(str::to_owned),
            features: features.map(|(name, on)| (name.clone(), list(on).map(text).collect())).collect(),
            manifest: manifest.strip_prefix(&root).unwrap_or(&manifest).to_owned(),
        }
    };
    list(&metadata["packages"]).map(package).collect()
}

/// The elements of a JSON array; none of anything else.
pub(crate) fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

impl Package {
    /// The choices of features that need a look besides the default one: none, and each alone. Those that come to the
    /// same as the default, or as one before, are left out.
    pub(crate) fn choices(&self) -> Vec<Vec<&str>> {
        let mut seen = BTreeSet::from([self.closure("default")]);
        let alone = self.features.keys().filter(|name| *name != "default").map(|name| vec![name.as_str()]);
        let all = std::iter::once(Vec::<&str>::new()).chain(alone);
        all.filter(|choice| {
            let on: BTreeSet<_> = choice.iter().flat_map(|name| self.closure(name)).collect();
            seen.insert(on) || choice.is_empty()
        })
        .collect()
    }

    /// Every feature of this package but `default`.
    pub(crate) fn features(&self) -> impl Iterator<Item = &str> {
        self.features.keys().map(String::as_str).filter(|name| *name != "default")
    }

    /// A feature with those of this package that it turns on.
    fn closure(&self, feature: &str) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        let mut queue = vec![feature];
        while let Some(next) = queue.pop() {
            let Some((name, on)) = self.features.get_key_value(next) else { continue };
            if name == "default" || found.insert(name.as_str()) {
                queue.extend(on.iter().map(String::as_str));
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NONE: &[&str] = &[];

    fn package(features: Value) -> Package {
        let metadata = json!({ "workspace_root": "/w", "packages": [{
            "name": "a", "manifest_path": "/w/x/a/Cargo.toml", "publish": null, "rust_version": "1.88",
            "targets": [{ "kind": ["lib"] }, { "kind": ["test"] }], "features": features,
        }]});
        packages(&metadata).remove(0)
    }

    #[test]
    fn a_package_is_read_with_its_place_and_whether_others_get_it() {
        let found = package(json!({ "default": ["b"], "b": [] }));
        assert_eq!((found.name.as_str(), found.manifest.as_str()), ("a", "x/a/Cargo.toml"));
        assert!(found.is_published);
        assert_eq!(found.rust_version.as_deref(), Some("1.88"));
        assert_eq!(found.features().collect::<Vec<_>>(), ["b"]);
    }

    #[test]
    fn each_feature_is_looked_at_alone_unless_it_is_the_default_by_another_name() {
        assert_eq!(package(json!({})).choices(), [NONE]);
        let two = json!({ "default": ["node"], "node": ["ldk", "dep:x"], "ldk": ["dep:y"] });
        assert_eq!(package(two).choices(), [NONE.to_vec(), vec!["ldk"]]);
        let four = json!({ "default": ["v1", "v2"], "v1": [], "v2": ["http"], "http": [] });
        assert_eq!(package(four).choices(), [NONE.to_vec(), vec!["http"], vec!["v1"], vec!["v2"]]);
    }
}
