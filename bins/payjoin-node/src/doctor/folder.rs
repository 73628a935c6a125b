//! The settings, and the folder of the node.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Finding;
use crate::keep;
use crate::settings::Settings;

pub(super) fn settings(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "settings";
    vec![match settings.check() {
        Ok(()) => Finding::good(CHECK, format!("they go together, on {}", settings.network)),
        Err(error) => Finding::trouble(CHECK, error.to_string()),
    }]
}

pub(super) fn folder(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "folder";
    let folder = settings.datadir.display();
    vec![match mode(&settings.datadir) {
        Ok(mode) if mode & 0o077 != 0 => {
            Finding::trouble(CHECK, format!("others can look into {folder}: chmod 700 {folder}"))
        }
        Ok(_) => Finding::good(CHECK, format!("{folder} is open to this user alone")),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Finding::warning(
            CHECK,
            format!("{folder} does not exist: `payjoind init` or `payjoind run` makes it"),
        ),
        Err(error) => Finding::trouble(CHECK, format!("cannot use {folder}: {error}")),
    }]
}

/// Less than this, and a full disk is near: then nothing is offered, and what is owed goes on.
const LEAST_FREE: u64 = 1_000_000_000;

pub(super) fn disk(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "disk";
    // The folder that is there already, where this one is made.
    let there = settings.datadir.ancestors().find(|folder| folder.is_dir());
    let Some(Ok(space)) = there.map(rustix::fs::statvfs) else { return Vec::new() };
    let free = space.f_bavail.saturating_mul(space.f_frsize);
    let text = format!("{} MB are free", free / 1_000_000);
    vec![match free < LEAST_FREE {
        true => Finding::warning(
            CHECK,
            format!("only {text}: with a full disk no payment is turned into channels"),
        ),
        false => Finding::good(CHECK, text),
    }]
}

pub(super) fn database(settings: &Settings) -> Vec<Finding> {
    const CHECK: &str = "database";
    let path = keep::database(&settings.datadir);
    let shown = path.display();
    if !path.exists() {
        return vec![Finding::good(CHECK, "there is none yet: the first start makes it")];
    }
    vec![match payjoin_io::schema_version(&path) {
        Ok((found, known)) if found > known => Finding::trouble(
            CHECK,
            format!("{shown} has version {found}, and this program knows {known} at most: run the newer one"),
        ),
        Ok((found, known)) if found < known => Finding::warning(
            CHECK,
            format!(
                "{shown} has version {found}: the next start makes it {known}, and older programs refuse it then"
            ),
        ),
        Ok((found, _)) => Finding::good(CHECK, format!("{shown} has version {found}")),
        Err(error) => Finding::trouble(CHECK, format!("{error}; `payjoind rescue` reads what is owed")),
    }]
}

/// Who may do what with a file.
pub(super) fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode())
}
