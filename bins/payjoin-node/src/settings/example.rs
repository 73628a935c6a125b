//! The settings file with every setting, as an example.

use std::fmt::Write as _;

use super::Shown::{Example, Flag, Other};
use super::{Entry, SECTIONS, Settings, Shown};

/// Where comments begin in [`Settings::example`].
const COMMENTS: usize = 46;

impl Settings {
    /// An example of the file with every setting, each line with what it means.
    #[must_use]
    pub fn example() -> String {
        let (defaults, mut text) = (Self::default(), String::new());
        let mut line = |code: &str, about: &str| {
            let line = if about.is_empty() { code.to_owned() } else { format!("{code:COMMENTS$}# {about}") };
            // A string takes everything.
            let _ = writeln!(text, "{line}");
        };
        for section in SECTIONS {
            if !section.name.is_empty() {
                line(&format!("[{}]", section.name), section.about);
            }
            for Entry { name, about, shown } in section.entries {
                let (behind, value) = shown.text(&defaults);
                let before = if behind { "# " } else { "" };
                line(&format!("{before}{name} = {value}"), about);
            }
        }
        text
    }
}

impl Shown {
    /// Whether it stands behind a `#`, and its value.
    fn text(&self, defaults: &Settings) -> (bool, String) {
        match self {
            Example(text) => (false, (*text).to_owned()),
            Other(text) => (true, (*text).to_owned()),
            Self::Number { value, behind, .. } => (*behind, value(defaults).to_string()),
            Flag(value) => (true, value(defaults).to_string()),
        }
    }
}
