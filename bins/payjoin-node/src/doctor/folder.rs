//! The settings, and the folder of the node.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use super::Finding;
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

/// Who may do what with a file.
pub(super) fn mode(path: &Path) -> std::io::Result<u32> {
    Ok(std::fs::metadata(path)?.permissions().mode())
}
