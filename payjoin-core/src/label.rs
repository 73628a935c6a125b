//! Words of the operator's for a code.

use serde::{Deserialize, Serialize};

/// A short line of text: no control character and none that turns the direction of writing, so that it is harmless
/// wherever it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema), schemars(with = "String"))]
pub struct Label(String);

impl Label {
    /// Most characters of a label.
    pub const MOST: usize = 200;

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Label {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        match text.chars().count() {
            0 => Err("it is empty: leave it out"),
            1..=Self::MOST if text.chars().any(misleads) => {
                Err("it holds a line break or another control character: remove it")
            }
            1..=Self::MOST => Ok(Self(text)),
            _ => Err("it is longer than 200 characters: shorten it"),
        }
    }
}

impl From<Label> for String {
    fn from(label: Label) -> Self {
        label.0
    }
}

impl std::str::FromStr for Label {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::try_from(text.to_owned())
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Words of somebody else's as one short line that is harmless wherever it is shown: what misleads becomes a replacement
/// character, and what is longer than a label is cut off.
#[must_use]
pub fn tame(text: &str) -> String {
    text.chars()
        .take(Label::MOST)
        .map(|letter| if misleads(letter) { char::REPLACEMENT_CHARACTER } else { letter })
        .collect()
}

/// Control characters, separators of lines, and what shows text in another order than it has.
fn misleads(letter: char) -> bool {
    let turns = matches!(letter, '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    letter.is_control() || matches!(letter, '\u{2028}' | '\u{2029}' | '\u{feff}') || turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_is_one_short_line_that_says_what_it_shows() {
        for (text, good) in [
            ("order 17", true),
            ("café ☕ =SUM(A1)", true),
            ("", false),
            ("two\nlines", false),
            ("\x1b[2J", false),
            ("a\u{202e}b", false),
            ("a\u{2028}b", false),
        ] {
            assert_eq!(text.parse::<Label>().is_ok(), good, "{text:?}");
        }
        assert!("x".repeat(200).parse::<Label>().is_ok());
        assert!("é".repeat(201).parse::<Label>().unwrap_err().contains("200"));
    }

    #[test]
    fn words_of_others_are_cut_and_lose_what_misleads() {
        assert_eq!(tame("a\n\u{1b}[2Jb\u{202e}"), "a\u{fffd}\u{fffd}[2Jb\u{fffd}");
        assert_eq!(tame(&"x".repeat(500)).len(), 200);
    }

    #[test]
    fn what_is_no_label_is_none_in_json_either() {
        assert_eq!(serde_json::from_str::<Label>(r#""a""#).unwrap().as_str(), "a");
        assert!(serde_json::from_str::<Label>(r#""a\u0007""#).is_err());
    }
}
