//! What strangers send, as functions over any bytes. Each panics where something is broken that must hold; nothing else
//! that it does is of interest.
//!
//! `cargo xtask fuzz` runs them under libFuzzer, and so does cargo-fuzz. The tests run them with the seeds.

mod control;
mod mailbox;
mod ohttp;
mod psbt;
mod request;
mod settings;
mod uri;

/// The kit of the core's tests: keys, Originals, a host that answers by script.
#[allow(
    dead_code,
    unused_imports,
    clippy::all,
    reason = "tests of another crate, of which this one uses a part"
)]
#[path = "../../payjoin-core/tests/it"]
mod it {
    pub(crate) mod kit;
}

use it::kit;

pub use control::control;
pub use mailbox::mailbox;
pub use ohttp::ohttp;
pub use psbt::psbt;
pub use request::request;
pub use settings::settings;
pub use uri::uri;

/// A target: its name, which is that of its folder of seeds too, and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target.
pub const TARGETS: &[Target] = &[
    ("psbt", psbt),
    ("request", request),
    ("uri", uri),
    ("mailbox", mailbox),
    ("ohttp", ohttp),
    ("control", control),
    ("settings", settings),
];

/// The text before the first line break, and the bytes after it.
fn line(data: &[u8]) -> Option<(&str, &[u8])> {
    let at = data.iter().position(|byte| *byte == b'\n')?;
    Some((std::str::from_utf8(&data[..at]).ok()?, &data[at + 1..]))
}

#[cfg(test)]
mod tests;
