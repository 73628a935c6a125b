//! How long files and functions may be. Tests count apart: a file of them may be longer, and their functions too.

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, Block, ImplItemFn, Item, ItemFn, Signature, TraitItemFn};

use super::{Finding, is_test};

const FILE: usize = 400;
const TEST_FILE: usize = 600;
const FUNCTION: usize = 40;
const MAIN: usize = 130;

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    if is_test(file) {
        let lines = text.lines().count();
        let long = (lines > TEST_FILE)
            .then(|| format!("{lines} lines of tests, at most {TEST_FILE}: split it by topic"));
        return long.into_iter().map(|message| Finding::new(file, 1, message)).collect();
    }
    let parsed = match syn::parse_file(text) {
        Ok(parsed) => parsed,
        Err(error) => return vec![Finding::new(file, error.span().start().line, error.to_string())],
    };
    let mut measure = Measure { file, findings: Vec::new() };
    measure.visit_file(&parsed);
    let lines = text.lines().count() - test_lines(&parsed);
    let limit = if is_main(file) { MAIN } else { FILE };
    if lines > limit {
        measure.findings.push(Finding::new(file, 1, format!("{lines} lines without tests, at most {limit}")));
    }
    measure.findings
}

/// The `main.rs` of a program that we ship: it parses, wires and runs.
fn is_main(file: &str) -> bool {
    file.starts_with("bins/") && file.ends_with("/src/main.rs")
}

struct Measure<'a> {
    file: &'a str,
    findings: Vec<Finding>,
}

impl Measure<'_> {
    /// From the line with `fn` to the closing brace; attributes and documentation do not count.
    fn function(&mut self, signature: &Signature, block: &Block) {
        let first = signature.span().start().line;
        let lines = block.span().end().line - first + 1;
        if lines > FUNCTION {
            let message = format!("`{}` has {lines} lines, at most {FUNCTION}", signature.ident);
            self.findings.push(Finding::new(self.file, first, message));
        }
    }
}

impl<'ast> Visit<'ast> for Measure<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !attributes(item).iter().any(is_cfg_test) {
            visit::visit_item(self, item);
        }
    }

    fn visit_item_fn(&mut self, item: &'ast ItemFn) {
        self.function(&item.sig, &item.block);
        visit::visit_item_fn(self, item);
    }

    fn visit_impl_item_fn(&mut self, item: &'ast ImplItemFn) {
        if !item.attrs.iter().any(is_cfg_test) {
            self.function(&item.sig, &item.block);
            visit::visit_impl_item_fn(self, item);
        }
    }

    fn visit_trait_item_fn(&mut self, item: &'ast TraitItemFn) {
        if let Some(block) = &item.default {
            self.function(&item.sig, block);
        }
        visit::visit_trait_item_fn(self, item);
    }
}

/// Lines of a file that are there for its tests only.
pub(super) fn test_lines(file: &syn::File) -> usize {
    let tests = file.items.iter().filter(|item| attributes(item).iter().any(is_cfg_test));
    tests.map(|item| item.span().end().line - item.span().start().line + 1).sum()
}

pub(super) fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

/// `#[cfg(test)]`, to the letter: in `any(test, ...)` the code is no test only.
pub(super) fn is_cfg_test(attribute: &Attribute) -> bool {
    attribute.path().is_ident("cfg")
        && attribute.parse_args::<syn::Path>().is_ok_and(|condition| condition.is_ident("test"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(lines: usize) -> String {
        format!("/// Documentation.\nfn long() {{\n{}}}\n", "    ();\n".repeat(lines - 2))
    }

    fn found(file: &str, text: &str) -> Vec<(usize, String)> {
        check(file, text).into_iter().map(|finding| (finding.line, finding.message)).collect()
    }

    #[test]
    fn a_function_past_its_limit_is_found_by_its_first_line() {
        assert_eq!(found("a.rs", &function(40)), []);
        assert_eq!(found("a.rs", &function(41)), [(2, "`long` has 41 lines, at most 40".to_owned())]);
        let method = format!("struct S;\nimpl S {{\n{}}}\n", function(41));
        assert_eq!(found("a.rs", &method).len(), 1);
    }

    #[test]
    fn a_file_past_its_limit_is_found() {
        let long = "const A: u8 = 0;\n".repeat(401);
        assert_eq!(found("a.rs", &long), [(1, "401 lines without tests, at most 400".to_owned())]);
        let main = "const A: u8 = 0;\n".repeat(131);
        assert_eq!(found("xtask/src/main.rs", &main), []);
        let expected = [(1, "131 lines without tests, at most 130".to_owned())];
        assert_eq!(found("bins/payjoind/src/main.rs", &main), expected);
    }

    #[test]
    fn tests_count_neither_as_lines_nor_as_functions_and_have_a_limit_of_their_own() {
        let text = format!("#[cfg(test)]\nmod tests {{\n{}}}\n", function(500));
        assert_eq!(found("a.rs", &text), []);
        assert_eq!(found("payjoin-core/tests/all.rs", &function(500)), []);
        assert_eq!(found("payjoin-core/src/plan/tests.rs", &function(500)), []);
        let long = [(1, "601 lines of tests, at most 600: split it by topic".to_owned())];
        assert_eq!(found("payjoin-core/tests/all.rs", &"const A: u8 = 0;\n".repeat(601)), long);
        let shared = text.replace("cfg(test)", "cfg(any(test, unix))");
        assert_eq!(found("a.rs", &shared).len(), 2);
    }

    #[test]
    fn a_file_that_is_no_rust_is_a_finding() {
        assert_eq!(found("a.rs", "fn {").len(), 1);
    }
}
