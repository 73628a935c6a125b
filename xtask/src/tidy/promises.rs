//! What documents name as proof of a promise exists.

use std::collections::BTreeSet;

use syn::visit::{self, Visit};
use syn::{Attribute, ItemFn};

use super::Finding;

/// Their tables are looked at whose last column has one of these titles.
pub(super) const DOCUMENTS: &[&str] = &["docs/reliability.md", "ARCHITECTURE.md"];
const TITLES: &[&str] = &["shown by", "seen by"];

/// Where the end-to-end cases are listed: in a file of this name, or below a folder of this name.
const CASES: &str = "xtask/e2e/src/cases";

/// A row without a name in its last column promises what nobody shows: there it is told in words.
pub(super) fn check(documents: &[(String, String)], code: &[(String, String)]) -> Vec<Finding> {
    let known = Known::read(code);
    let mut findings = Vec::new();
    for (file, text) in documents {
        for (line, name) in proofs(text) {
            if !known.has(name) {
                findings.push(Finding::new(file, line, format!("`{name}`: no such test, case or file")));
            }
        }
    }
    findings
}

/// Whatever stands between backticks in the last column of these tables, with its line.
fn proofs(text: &str) -> Vec<(usize, &str)> {
    let (mut proofs, mut inside) = (Vec::new(), false);
    for (number, line) in (1..).zip(text.lines()) {
        let last =
            line.strip_prefix('|').and_then(|row| row.trim_end().strip_suffix('|')?.rsplit('|').next());
        inside = match last {
            None => false,
            Some(title) if TITLES.contains(&title.trim()) => true,
            Some(cell) if inside => {
                proofs.extend(cell.split('`').skip(1).step_by(2).map(|name| (number, name)));
                true
            }
            Some(_) => false,
        };
    }
    proofs
}

#[derive(Default)]
struct Known {
    in_contract: bool,
    tests: BTreeSet<String>,
    cases: BTreeSet<String>,
    files: BTreeSet<String>,
}

impl Known {
    fn read(code: &[(String, String)]) -> Self {
        let mut known = Self::default();
        for (file, text) in code {
            known.files.insert(format!("/{file}"));
            if file.starts_with(CASES) {
                let names =
                    text.lines().filter_map(|line| line.trim().strip_prefix("name: \"")?.split('"').next());
                known.cases.extend(names.map(str::to_owned));
                // A short one stands on a line of its own.
                let short =
                    text.lines().filter_map(|line| line.split("Case { name: \"").nth(1)?.split('"').next());
                known.cases.extend(short.map(str::to_owned));
            }
            if let Ok(parsed) = syn::parse_file(text) {
                // The functions of a contract are tests wherever it is signed.
                known.in_contract = file.contains("_contract");
                known.visit_file(&parsed);
            }
        }
        known
    }

    /// A case has a hyphen in its name. A test may be named by the beginning of its name, as `cargo test` finds it.
    fn has(&self, name: &str) -> bool {
        if name.ends_with(".rs") {
            return self.files.iter().any(|file| file.ends_with(&format!("/{name}")));
        }
        if name.contains('-') || self.cases.contains(name) {
            return self.cases.contains(name);
        }
        self.tests.range(name.to_owned()..).next().is_some_and(|test| test.starts_with(name))
    }
}

impl<'ast> Visit<'ast> for Known {
    fn visit_item_fn(&mut self, function: &'ast ItemFn) {
        let is_test = |attribute: &Attribute| {
            attribute.path().segments.last().is_some_and(|segment| segment.ident == "test")
        };
        let is_term = self.in_contract && matches!(function.vis, syn::Visibility::Public(_));
        if is_term || function.attrs.iter().any(is_test) {
            self.tests.insert(function.sig.ident.to_string());
        }
        visit::visit_item_fn(self, function);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(document: &str) -> Vec<(usize, String)> {
        let code = [
            (
                "xtask/e2e/src/cases/some.rs".to_owned(),
                "    Case {\n        name: \"disk-full\",\n    Case { name: \"send-v1\", }".to_owned(),
            ),
            (
                "a/src/b.rs".to_owned(),
                "#[tokio::test]\nasync fn it_holds_whatever() {}\nfn no_test() {}".to_owned(),
            ),
            (
                "a/src/some_contract/c.rs".to_owned(),
                "pub async fn what_all_do() {}\nfn helps() {}".to_owned(),
            ),
        ];
        let findings = check(&[("docs/reliability.md".to_owned(), document.to_owned())], &code);
        findings.into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn a_test_a_case_or_a_file_that_exists_is_a_proof() {
        let good = "| promise | shown by |\n| --- | --- |\n| `x` | `it_holds`, `what_all`; e2e `disk-full`, `send-v1`; `src/b.rs` |\n";
        assert!(named(good).is_empty());
    }

    #[test]
    fn what_does_not_exist_is_named_with_its_line() {
        for name in ["holds_it", "no_test", "helps", "disk-fuller", "src/d.rs"] {
            let text = format!("| fault | seen by |\n| --- | --- |\n| a | b, `{name}` |\n");
            assert_eq!(named(&text), [(3, format!("`{name}`: no such test, case or file"))]);
        }
    }

    #[test]
    fn other_tables_and_text_promise_nothing() {
        assert!(named("`nothing`\n| rule | enforced by |\n| --- | --- |\n| a | `Type` |\n").is_empty());
    }
}
