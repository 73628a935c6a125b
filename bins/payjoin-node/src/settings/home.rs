//! Where the user's files are.

use std::path::PathBuf;

/// The user's home folder. Where there is none, nothing has a usual place.
pub(super) fn home() -> Option<PathBuf> {
    std::env::var_os("HOME").map(PathBuf::from).filter(|home| home.is_absolute())
}
