//! Words that must not be there.

use super::{Finding, is_test};

/// Anywhere. Spelled in two halves, so that this list does not break its own rule.
const NOWHERE: &[(&str, &str, &str)] = &[
    ("to", "do!", "unfinished code"),
    ("unimple", "mented!", "unfinished code"),
    ("db", "g!", "left over from debugging"),
    ("#[ig", "nore", "a test that does not run"),
    ("(miss", "ing_docs", "every public item is documented"),
    ("FIX", "ME", "an open end: open an issue"),
    ("XX", "X", "an open end: open an issue"),
    ("crates", ".io", "the name of a registry host"),
    ("docs", ".rs", "the name of a registry host"),
    ("deb.debian", ".org", "the name of a registry host"),
    ("pypi", ".org", "the name of a registry host"),
    ("registry.npm", "js.org", "the name of a registry host"),
];

/// Ways to a clock. Machines of the core get the time as an argument.
const CLOCKS: &[&str] = &["std::time", "Instant::now", "SystemTime", "UNIX_EPOCH", "web_time", "chrono::"];

/// Where answers are shown to people. Everywhere else in bins/ they are types.
const RENDERING: &str = "bins/payjoind/src/render.rs";

/// Lock files are cargo's, and name its registry.
const SKIPPED: &[&str] = &["Cargo.lock", "fuzz/Cargo.lock"];

pub(super) fn check(file: &str, text: &str) -> Vec<Finding> {
    if SKIPPED.contains(&file) {
        return Vec::new();
    }
    let is_typed = file.starts_with("bins/") && file.ends_with(".rs") && file != RENDERING && !is_test(file);
    let in_core = file.starts_with("payjoin-core/src/") && !is_test(file);
    let mut findings = Vec::new();
    for (number, line) in (1..).zip(text.lines()) {
        for (head, tail, why) in NOWHERE {
            if has_word(line, &format!("{head}{tail}")) {
                findings.push(Finding::new(file, number, format!("`{head}{tail}`: {why}")));
            }
        }
        if is_typed && line.contains("json!") {
            findings.push(Finding::new(file, number, "`json!`: answers are types, JSON is made by serde"));
        }
        let code = line.split("//").next().unwrap_or_default();
        for clock in CLOCKS.iter().filter(|clock| in_core && code.contains(**clock)) {
            findings.push(Finding::new(file, number, format!("`{clock}`: the core reads no clock")));
        }
    }
    findings
}

/// Is the word there, and not only as the end of a longer one?
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        !line[..at].ends_with(|before: char| before.is_ascii_alphanumeric() || before == '_')
            && !line[at + word.len()..].starts_with(|after: char| after.is_ascii_uppercase())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(file: &str, text: &str) -> Vec<usize> {
        check(file, text).into_iter().map(|finding| finding.line).collect()
    }

    #[test]
    fn every_forbidden_word_is_found_with_its_line() {
        for (head, tail, _) in NOWHERE {
            assert_eq!(lines("a.md", &format!("first\nthen {head}{tail} here\n")), [2], "{head}{tail}");
        }
    }

    #[test]
    fn a_longer_word_is_another_word() {
        assert!(lines("a.rs", &format!("my_{}{}(x)", "to", "do!")).is_empty());
        assert!(lines("a.sh", &format!("mktemp folder.{}", "X".repeat(6))).is_empty());
        assert!(lines("Cargo.lock", &format!("{}{}", "crates", ".io")).is_empty());
    }

    #[test]
    fn json_by_hand_is_found_in_the_programs_outside_of_rendering() {
        let text = "let a = json!({});\n";
        assert_eq!(lines("bins/payjoin-node/src/requests/pay.rs", text), [1]);
        assert!(lines(RENDERING, text).is_empty());
        assert!(lines("bins/payjoin-node/src/requests/tests.rs", text).is_empty());
        assert!(lines("payjoin-lightning/src/node/bitcoind.rs", text).is_empty());
    }

    #[test]
    fn a_clock_is_found_in_the_core_and_only_there() {
        let text = "use std::time::Instant;\nlet now = Instant::now();\nlet then = SystemTime::now();\n";
        assert_eq!(lines("payjoin-core/src/exchange.rs", text), [1, 2, 3]);
        assert!(lines("payjoin-io/src/server.rs", text).is_empty());
        assert!(
            lines("payjoin-core/src/time.rs", "/// Never SystemTime.\ncore::time::Duration\n").is_empty()
        );
    }
}
