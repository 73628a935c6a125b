//! How large each crate is, how much of it is tests, and how much of it others can name.

use std::collections::BTreeMap;
use std::fmt::Write;

use syn::visit::{self, Visit};
use syn::{ImplItemFn, Item, Visibility};

use super::lengths::{attributes, is_cfg_test, test_lines};
use super::{Finding, is_test};

/// Lines of tests for each line of code, at least.
const LEAST_TESTS: f64 = 0.5;

/// Lines of code of the daemon: it parses, passes on and prints. What decides is in payjoin-node.
const MOST_DAEMON: usize = 2_200;
const DAEMON: &str = "bins/payjoind";

/// What is below these is made of tests, or serves them, and is not measured by theirs.
const SERVE_TESTS: &[&str] = &["xtask", "fuzz"];

/// End-to-end cases are tests of what they run. The first that fits counts.
const CASES: &[(&str, &str)] = &[
    ("xtask/e2e/src/cases/onion", "payjoin-tor"),
    ("xtask/e2e/src/cases/lnd", "payjoin-lightning"),
    ("xtask/e2e/src/cases/own", "payjoin-lightning"),
    ("xtask/e2e/src/cases/peer", "payjoin-lightning"),
    ("xtask/e2e/src/cases/operator", DAEMON),
    ("xtask/e2e/src/cases/safety", DAEMON),
    ("xtask/e2e/src/cases/", "bins/payjoin-node"),
    ("xtask/e2e/src/soak", "bins/payjoin-node"),
];

#[derive(Default)]
struct Measure {
    code: usize,
    tests: usize,
    /// Items that users of the crate can name, methods too.
    public: usize,
}

impl Measure {
    fn ratio(&self) -> f64 {
        self.tests as f64 / self.code as f64
    }
}

/// A table of all crates, and the bounds that are broken.
pub(super) fn check(files: &[(String, String)]) -> (String, Vec<Finding>) {
    let crates = measure(files);
    let mut table = format!("{:<18} {:>6} {:>6} {:>6} {:>7}\n", "", "code", "tests", "ratio", "public");
    let mut findings = Vec::new();
    for (name, found) in &crates {
        let Measure { code, tests, public } = found;
        // A String takes whatever is written to it.
        let _ = writeln!(table, "{name:<18} {code:>6} {tests:>6} {:>6.2} {public:>7}", found.ratio());
        let manifest = format!("{name}/Cargo.toml");
        if found.ratio() < LEAST_TESTS && !SERVE_TESTS.iter().any(|folder| name.starts_with(folder)) {
            let message = format!(
                "{tests} lines of tests for {code} of code: {:.2}, at least {LEAST_TESTS}",
                found.ratio()
            );
            findings.push(Finding::new(&manifest, 1, message));
        }
        if *name == DAEMON && *code > MOST_DAEMON {
            findings.push(Finding::new(&manifest, 1, format!("{code} lines of code, at most {MOST_DAEMON}")));
        }
    }
    (table, findings)
}

fn measure(files: &[(String, String)]) -> BTreeMap<&str, Measure> {
    let mut crates: BTreeMap<&str, Measure> = BTreeMap::new();
    for (file, text) in files {
        let Some((name, below)) = split(file) else { continue };
        let found = crates.entry(name).or_default();
        let lines = text.lines().count();
        if is_test(file) {
            found.tests += lines;
        } else if let Some((_, tested)) = CASES.iter().find(|(cases, _)| file.starts_with(cases)) {
            crates.entry(tested).or_default().tests += lines;
        } else if below.starts_with("src/")
            && let Ok(parsed) = syn::parse_file(text)
        {
            let tests = test_lines(&parsed);
            found.tests += tests;
            found.code += lines - tests;
            let mut public = Public(0);
            public.visit_file(&parsed);
            found.public += public.0;
        }
    }
    crates
}

/// The folder of a file's crate, and the rest of its name.
fn split(file: &str) -> Option<(&str, &str)> {
    let folders = ["/src/", "/tests/", "/examples/"];
    let at = folders.iter().filter_map(|folder| file.find(folder)).min()?;
    Some((&file[..at], &file[at + 1..]))
}

struct Public(usize);

impl Public {
    fn count(&mut self, visibility: &Visibility) {
        self.0 += usize::from(matches!(visibility, Visibility::Public(_)));
    }
}

impl<'ast> Visit<'ast> for Public {
    fn visit_item(&mut self, item: &'ast Item) {
        if attributes(item).iter().any(is_cfg_test) {
            return;
        }
        match item {
            Item::Const(item) => self.count(&item.vis),
            Item::Enum(item) => self.count(&item.vis),
            Item::Fn(item) => self.count(&item.vis),
            Item::Static(item) => self.count(&item.vis),
            Item::Struct(item) => self.count(&item.vis),
            Item::Trait(item) => self.count(&item.vis),
            Item::Type(item) => self.count(&item.vis),
            _ => {}
        }
        visit::visit_item(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        self.count(&item.vis);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(name: &str, text: &str) -> (String, String) {
        (name.to_owned(), text.to_owned())
    }

    #[test]
    fn code_tests_and_public_items_are_counted_apart() {
        let lib = "pub struct A;\nimpl A {\n    pub fn a() {}\n    fn b() {}\n}\npub(crate) fn c() {}\n\
                   #[cfg(test)]\nmod tests {\n    pub fn d() {}\n}\n";
        let files = [
            file("a/src/lib.rs", lib),
            file("a/src/x/tests.rs", "fn e() {}\n"),
            file("a/tests/it/main.rs", "pub fn f() {}\n"),
            file("a/examples/g.rs", "pub fn g() {}\n"),
            file("build.rs", "fn main() {}\n"),
        ];
        let found = measure(&files);
        let Measure { code, tests, public } = found["a"];
        assert_eq!((found.len(), code, tests, public), (1, 6, 6, 2));
    }

    #[test]
    fn a_crate_with_few_tests_is_found_and_cases_count_for_what_they_run() {
        let code = "fn a() {}\n".repeat(10);
        let broken =
            |files: &[(String, String)]| check(files).1.iter().map(Finding::to_string).collect::<Vec<_>>();
        let few = [file("payjoin-tor/src/lib.rs", &code), file("payjoin-tor/tests/a.rs", &code[..40])];
        let expected = ["payjoin-tor/Cargo.toml:1: 4 lines of tests for 10 of code: 0.40, at least 0.5"];
        assert_eq!(broken(&few), expected);
        let enough = [&few[..], &[file("xtask/e2e/src/cases/onion/leak.rs", "fn b() {}\n")]].concat();
        assert_eq!(broken(&enough), [""; 0]);
        assert_eq!(broken(&[file("xtask/e2e/src/main.rs", &code)]), [""; 0]);
    }

    #[test]
    fn a_daemon_that_grows_is_found() {
        let files = [
            file("bins/payjoind/src/main.rs", &"fn a() {}\n".repeat(2201)),
            file("bins/payjoind/tests/a.rs", &"fn a() {}\n".repeat(1500)),
        ];
        let (table, broken) = check(&files);
        assert!(table.contains("bins/payjoind        2201   1500   0.68       0"), "{table}");
        assert_eq!(broken[0].message, "2201 lines of code, at most 2200");
    }
}
