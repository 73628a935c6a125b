//! Circles between files of a crate: of two files, at most one uses the other, also by way of more files.
//!
//! A module and what is below it belong together: `foo.rs` may use `foo/bar.rs` and be used by it. Names are followed
//! through `use` to the file that defines them. Not seen: arguments of macros, and names that came by `use path::*`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use syn::visit::{self, Visit};
use syn::{Attribute, ItemMod, ItemUse, Path, UseTree, Visibility};

use super::lengths::{attributes, is_cfg_test};
use super::{Finding, is_test};

/// Where in its crate a module is: empty for `lib.rs` and `main.rs`.
type Place = Vec<String>;

/// Which files of a crate use which, and the name that shows it.
type Uses<'a> = BTreeMap<&'a str, BTreeMap<&'a str, String>>;

/// A `use` that leads to itself through others is none that compiles; this ends the search all the same.
const DEEPEST: usize = 16;

/// One finding for each file from which a circle leads back to it, until each circle is named once.
pub(super) fn check(files: &[(String, String)]) -> Vec<Finding> {
    let mut crates: BTreeMap<&str, Crate> = BTreeMap::new();
    for (file, text) in files.iter().filter(|(file, _)| !is_test(file)) {
        let Some((root, place)) = place(file) else { continue };
        // A file that is no Rust is another check's finding.
        let Ok(parsed) = syn::parse_file(text) else { continue };
        Reader { modules: &mut crates.entry(root).or_default().0, place, file }.visit_file(&parsed);
    }
    crates.values().flat_map(|one| circles(&one.uses())).collect()
}

/// The folder of the crate, and where in the crate the file is.
fn place(file: &str) -> Option<(&str, Place)> {
    let (root, below) = file.split_once("/src/")?;
    let mut place: Place = below.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    place.pop_if(|last| last == "mod");
    if matches!(below, "lib.rs" | "main.rs") {
        place.clear();
    }
    Some((root, place))
}

/// A file, or a part of one.
#[derive(Default)]
struct Module {
    file: String,
    /// What a name stands for by `use`.
    imports: BTreeMap<String, Vec<String>>,
    /// Every path in it that has more than one part.
    paths: BTreeSet<Vec<String>>,
}

#[derive(Default)]
struct Crate(BTreeMap<Place, Module>);

impl Crate {
    fn uses(&self) -> Uses<'_> {
        let mut uses = Uses::new();
        for (place, module) in &self.0 {
            for path in &module.paths {
                let Some(owner) = self.owner(place, path, 0) else { continue };
                let apart = !owner.starts_with(place) && !place.starts_with(&owner);
                if apart && self.0[&owner].file != module.file {
                    let to = self.0[&owner].file.as_str();
                    uses.entry(module.file.as_str()).or_default().insert(to, path.join("::"));
                }
            }
        }
        uses
    }

    /// The module that defines what a path leads to. `None` for other crates, and for a module itself.
    fn owner(&self, from: &Place, path: &[String], depth: usize) -> Option<Place> {
        let (first, rest) = path.split_first()?;
        match first.as_str() {
            _ if depth == DEEPEST => None,
            "crate" => self.descend(Place::new(), rest, depth),
            "self" => self.descend(from.clone(), rest, depth),
            "super" => self.descend(from[..from.len().checked_sub(1)?].to_vec(), rest, depth),
            name if self.knows(from, name) => self.descend(from.clone(), path, depth),
            _ => None,
        }
    }

    fn descend(&self, mut at: Place, path: &[String], depth: usize) -> Option<Place> {
        for (index, name) in path.iter().enumerate() {
            let below = child(&at, name);
            if name == "super" {
                at.pop()?;
            } else if self.0.contains_key(&below) {
                at = below;
            } else if let Some(import) = self.0.get(&at)?.imports.get(name) {
                return self.owner(&at, &[import, &path[index + 1..]].concat(), depth + 1);
            } else {
                return Some(at);
            }
        }
        None
    }

    fn knows(&self, at: &Place, name: &str) -> bool {
        self.0.contains_key(&child(at, name)) || self.0[at].imports.contains_key(name)
    }
}

fn child(place: &Place, name: &str) -> Place {
    [place.as_slice(), &[name.to_owned()]].concat()
}

/// Reads a file into the modules of its crate.
struct Reader<'a> {
    modules: &'a mut BTreeMap<Place, Module>,
    place: Place,
    file: &'a str,
}

impl Reader<'_> {
    fn module(&mut self) -> &mut Module {
        let file = self.file;
        self.modules
            .entry(self.place.clone())
            .or_insert_with(|| Module { file: file.to_owned(), ..Module::default() })
    }

    fn import(&mut self, path: &[String], tree: &UseTree) {
        let whole = |name: &syn::Ident| {
            if name == "self" { path.to_vec() } else { child(&path.to_vec(), &name.to_string()) }
        };
        let (whole, here) = match tree {
            UseTree::Path(part) => return self.import(&whole(&part.ident), &part.tree),
            UseTree::Group(group) => return group.items.iter().for_each(|tree| self.import(path, tree)),
            UseTree::Glob(_) => return,
            UseTree::Name(name) => (whole(&name.ident), None),
            UseTree::Rename(name) => (whole(&name.ident), Some(name.rename.to_string())),
        };
        if let Some(here) = here.or_else(|| whole.last().cloned()) {
            self.module().paths.insert(whole.clone());
            self.module().imports.insert(here, whole);
        }
    }
}

impl<'ast> Visit<'ast> for Reader<'_> {
    fn visit_file(&mut self, file: &'ast syn::File) {
        self.module();
        visit::visit_file(self, file);
    }

    fn visit_item(&mut self, item: &'ast syn::Item) {
        if !attributes(item).iter().any(is_cfg_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_some() {
            self.place.push(item.ident.to_string());
            self.module();
            visit::visit_item_mod(self, item);
            self.place.pop();
        }
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.import(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.segments.len() > 1 && path.leading_colon.is_none() {
            let parts = path.segments.iter().map(|part| part.ident.to_string()).collect();
            self.module().paths.insert(parts);
        }
        visit::visit_path(self, path);
    }

    // `pub(in super::super)` and `#[derive(...)]` use nothing.
    fn visit_visibility(&mut self, _: &'ast Visibility) {}
    fn visit_attribute(&mut self, _: &'ast Attribute) {}
}

fn circles(uses: &Uses<'_>) -> Vec<Finding> {
    let (mut found, mut named) = (Vec::new(), BTreeSet::new());
    for from in uses.keys() {
        let Some(way) = way_back(uses, from) else { continue };
        if way.iter().all(|file| !named.contains(file)) {
            let names = way.windows(2).map(|pair| format!("uses {} of {}", uses[pair[0]][pair[1]], pair[1]));
            let message = format!("a circle: it {}", names.collect::<Vec<_>>().join(", which "));
            found.push(Finding::new(from, 1, message));
            named.extend(way);
        }
    }
    found
}

/// The shortest way along uses from a file to itself, both ends named.
fn way_back<'a>(uses: &Uses<'a>, start: &'a str) -> Option<Vec<&'a str>> {
    let mut before = BTreeMap::new();
    let mut queue = VecDeque::from([start]);
    while let Some(at) = queue.pop_front() {
        for next in uses.get(at).into_iter().flat_map(BTreeMap::keys) {
            if !before.contains_key(next) {
                before.insert(*next, at);
                queue.push_back(next);
            }
        }
    }
    let mut way = vec![start, before.get(start)?];
    while way[way.len() - 1] != start {
        way.push(before[way[way.len() - 1]]);
    }
    way.reverse();
    Some(way)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(files: &[(&str, &str)]) -> Vec<String> {
        let files: Vec<_> =
            files.iter().map(|(file, text)| (format!("x/src/{file}"), (*text).to_owned())).collect();
        check(&files).iter().map(Finding::to_string).collect()
    }

    const LIB: (&str, &str) =
        ("lib.rs", "mod a;\nmod b;\nmod c;\npub use a::A;\npub use b::B;\npub use c::C;");

    #[test]
    fn a_circle_is_named_once_with_its_way_through_the_export_list() {
        let files = [
            LIB,
            ("a.rs", "use crate::B;\npub struct A;"),
            ("b.rs", "pub struct B(crate::c::C);"),
            ("c.rs", "use super::A;\npub struct C;"),
        ];
        assert_eq!(
            found(&files),
            ["x/src/a.rs:1: a circle: it uses crate::B of x/src/b.rs, which uses crate::c::C \
            of x/src/c.rs, which uses super::A of x/src/a.rs"]
        );
    }

    #[test]
    fn what_is_used_one_way_or_for_tests_only_or_by_its_own_part_is_no_circle() {
        let one_way = [
            LIB,
            ("a.rs", "use crate::{B, c};\npub struct A(c::C);"),
            ("b.rs", "use crate::C;"),
            ("c.rs", ""),
        ];
        assert_eq!(found(&one_way), [""; 0]);
        let test = [LIB, ("a.rs", "use crate::B;"), ("b.rs", "#[cfg(test)]\nmod tests { use crate::A; }")];
        assert_eq!(found(&test), [""; 0]);
        let part = [
            LIB,
            ("a.rs", "mod part;\nuse part::P;\npub struct A;"),
            ("a/part.rs", "use super::A;\npub struct P;"),
        ];
        assert_eq!(found(&part), [""; 0]);
    }

    #[test]
    fn a_module_that_is_imported_counts_where_something_of_it_is_used() {
        let files = [
            LIB,
            ("a.rs", "use crate::b;\nfn a() { b::b(); }"),
            ("b.rs", "use crate::a;\npub fn b() { a::A; }"),
        ];
        assert_eq!(found(&files).len(), 1);
        let unused = [LIB, ("a.rs", "use crate::b;\nfn a() { b::b(); }"), ("b.rs", "use crate::a as other;")];
        assert_eq!(found(&unused), [""; 0]);
    }
}
