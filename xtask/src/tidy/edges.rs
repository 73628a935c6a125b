//! Which crate may depend on which.

use std::fs;

use anyhow::{Context, Result};
use serde_json::Value;

use super::Finding;
use crate::metadata;
use xtask_programs::{process, workspace};

/// `core <- io <- tor`, `core <- lightning`, `all of them <- node <- payjoind`; what is below xtask/ drives processes and
/// uses none of these.
const ALLOWED: &[(&str, &[&str])] = &[
    ("payjoin-core", &[]),
    ("payjoin-io", &["payjoin-core"]),
    ("payjoin-lightning", &["payjoin-core"]),
    ("payjoin-tor", &["payjoin-core", "payjoin-io"]),
    ("payjoin-node", &["payjoin-core", "payjoin-io", "payjoin-lightning", "payjoin-tor"]),
    ("payjoind", &["payjoin-node"]),
    ("xtask", &["xtask-programs"]),
    ("xtask-e2e", &["xtask-programs"]),
    ("xtask-programs", &[]),
];

/// Starts bitcoind, for the tests of any crate.
const LAUNCHER: &str = "xtask-programs";

/// A package, and what must not be in its tree, however deep.
struct Tree {
    manifest: &'static str,
    /// For `cargo tree`.
    build: &'static [&'static str],
    without: &'static [&'static str],
    why: &'static str,
}

const TREES: &[Tree] = &[
    Tree {
        manifest: "payjoin-core/Cargo.toml",
        build: &["--package=payjoin-core"],
        without: OUTSIDE,
        why: "the core uses no runtime and no network",
    },
    Tree {
        manifest: "payjoin-io/Cargo.toml",
        build: &["--package=payjoin-io"],
        without: TOR,
        why: "Tor is payjoin-tor's",
    },
    Tree {
        manifest: "payjoin-lightning/Cargo.toml",
        build: &["--package=payjoin-lightning"],
        without: TOR,
        why: "Tor is payjoin-tor's",
    },
    Tree {
        manifest: "bins/payjoind/Cargo.toml",
        build: &["--package=payjoind", "--no-default-features"],
        without: TOR,
        why: "Tor is the feature `tor`",
    },
];

/// A name stands for every crate that begins with it and a hyphen, too.
const TOR: &[&str] = &["arti", "payjoin-tor", "tor"];

/// Crates that run, sleep, connect or store.
const OUTSIDE: &[&str] = &[
    "arti",
    "async-io",
    "async-std",
    "futures-executor",
    "hyper",
    "isahc",
    "libsqlite3-sys",
    "mio",
    "minreq",
    "native-tls",
    "openssl",
    "polling",
    "reqwest",
    "rusqlite",
    "rustls",
    "smol",
    "socket2",
    "sqlx",
    "tokio",
    "ureq",
];

/// A dependency that a manifest names.
#[derive(Debug)]
struct Edge {
    from: String,
    to: String,
    /// Used by tests only.
    dev: bool,
    manifest: String,
}

pub(super) fn check() -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for edge in edges(&metadata::read(false)?)? {
        if let Some(message) = forbidden(&edge) {
            let text = fs::read_to_string(workspace::root().join(&edge.manifest))?;
            findings.push(Finding::new(&edge.manifest, line_of(&text, &edge.to), message));
        }
    }
    for tree in TREES {
        findings.extend(check_tree(tree)?);
    }
    Ok(findings)
}

fn check_tree(tree: &Tree) -> Result<Vec<Finding>> {
    let mut command = workspace::cargo();
    command.args(["tree", "--locked", "--edges=normal", "--prefix=none", "--format={p}"]).args(tree.build);
    let listing = process::output(&mut command)?;
    let finding = |name| Finding::new(tree.manifest, 1, format!("its tree holds {name}: {}", tree.why));
    Ok(held(&listing, tree.without).map(finding).collect())
}

/// Every edge between members of the workspace: normal, build and dev alike.
fn edges(metadata: &Value) -> Result<Vec<Edge>> {
    let packages = metadata["packages"].as_array().context("metadata without packages")?;
    let names: Vec<_> = packages.iter().filter_map(|package| package["name"].as_str()).collect();
    let root = format!("{}/", metadata["workspace_root"].as_str().unwrap_or_default());
    let mut edges = Vec::new();
    for package in packages {
        let manifest = package["manifest_path"].as_str().unwrap_or_default();
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let to = dependency["name"].as_str().unwrap_or_default();
            if names.contains(&to) {
                edges.push(Edge {
                    from: package["name"].as_str().unwrap_or_default().to_owned(),
                    to: to.to_owned(),
                    dev: dependency["kind"] == "dev",
                    manifest: manifest.strip_prefix(&root).unwrap_or(manifest).to_owned(),
                });
            }
        }
    }
    Ok(edges)
}

fn forbidden(edge: &Edge) -> Option<String> {
    let rule = ALLOWED.iter().find(|(name, _)| *name == edge.from);
    match rule {
        None => Some(format!("{} is a new crate: say in tidy/edges.rs what it may use", edge.from)),
        Some((_, allowed)) if allowed.contains(&edge.to.as_str()) => None,
        Some(_) if edge.dev && edge.to == LAUNCHER => None,
        Some(_) => Some(format!("{} must not depend on {}", edge.from, edge.to)),
    }
}

fn line_of(manifest: &str, dependency: &str) -> usize {
    manifest.lines().position(|line| line.starts_with(dependency)).map_or(1, |index| index + 1)
}

/// Which of these crates a `cargo tree` listing holds.
fn held<'a>(listing: &'a str, without: &[&str]) -> impl Iterator<Item = &'a str> {
    let names = listing.lines().filter_map(|line| line.split(' ').next());
    names.filter(|name| {
        let begins =
            |with: &str| name.strip_prefix(with).is_some_and(|rest| rest.is_empty() || rest.starts_with('-'));
        without.iter().any(|with| begins(with))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(from: &str, to: &str, dev: bool) -> Option<String> {
        forbidden(&Edge { from: from.to_owned(), to: to.to_owned(), dev, manifest: String::new() })
    }

    #[test]
    fn edges_of_the_plan_pass_and_all_others_are_named() {
        assert_eq!(check("payjoin-io", "payjoin-core", false), None);
        assert_eq!(check("payjoin-node", "payjoin-lightning", false), None);
        for (from, to) in [
            ("payjoin-core", "payjoin-io"),
            ("payjoin-io", "payjoin-lightning"),
            ("payjoin-lightning", "payjoin-io"),
            ("payjoin-io", "payjoin-tor"),
            ("payjoind", "payjoin-lightning"),
            ("xtask", "xtask-e2e"),
            ("xtask-e2e", "payjoin-core"),
        ] {
            for dev in [false, true] {
                assert_eq!(check(from, to, dev), Some(format!("{from} must not depend on {to}")));
            }
        }
        let new = check("payjoin-new", "payjoin-core", false);
        assert!(new.is_some_and(|message| message.contains("new crate")));
    }

    #[test]
    fn only_tests_start_bitcoind() {
        assert_eq!(check("payjoin-io", LAUNCHER, true), None);
        assert!(check("payjoin-io", LAUNCHER, false).is_some());
    }

    #[test]
    fn edges_are_read_from_metadata_with_their_manifest() {
        let metadata = serde_json::json!({ "workspace_root": "/w", "packages": [
            { "name": "a", "manifest_path": "/w/a/Cargo.toml",
              "dependencies": [{ "name": "b", "kind": "dev" }, { "name": "serde", "kind": null }] },
            { "name": "b", "manifest_path": "/w/b/Cargo.toml", "dependencies": [] },
        ]});
        let found = edges(&metadata).unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].to.as_str(), found[0].manifest.as_str()), ("b", "a/Cargo.toml"));
        assert!(found[0].dev);
        assert_eq!(line_of("[dependencies]\nserde = \"1\"\nb.workspace = true\n", "b"), 3);
    }

    #[test]
    fn a_runtime_or_a_socket_deep_in_the_tree_is_found() {
        let tree = "payjoin-core v0.1.0\nserde v1\ntokio v1\nhyper-util v0.1\nsocket2 v0.6\ntokiodo v1\n";
        assert_eq!(held(tree, OUTSIDE).collect::<Vec<_>>(), ["tokio", "hyper-util", "socket2"]);
    }

    #[test]
    fn tor_is_found_by_every_name_its_crates_have() {
        let tree =
            "payjoind v0.1.0\npayjoin-tor v0.1.0\narti-client v0.47.0\ntor-proto v0.47.0\ntower v0.5\n";
        assert_eq!(held(tree, TOR).collect::<Vec<_>>(), ["payjoin-tor", "arti-client", "tor-proto"]);
    }
}
