//! What a start makes is taken away again where the start is refused.

use std::path::{Path, PathBuf};

use crate::keep::database;
use crate::settings::Settings;

/// What was not there before a start, of what a start makes besides the seed.
pub(crate) struct Fresh {
    files: Vec<PathBuf>,
    /// Inner ones first.
    folders: Vec<PathBuf>,
    /// Whole folders of Tor, with keys that nobody was told.
    tor: Vec<PathBuf>,
    seed: PathBuf,
    had_seed: bool,
}

impl Fresh {
    /// Looks at what is there.
    pub(crate) fn look(settings: &Settings) -> Self {
        let (datadir, database) = (&settings.datadir, database(&settings.datadir));
        let beside = |end: &str| {
            let mut name = database.clone().into_os_string();
            name.push(end);
            PathBuf::from(name)
        };
        let files = [
            database.clone(),
            beside("-wal"),
            beside("-shm"),
            beside(".lock"),
            database.with_extension("count"),
        ];
        let files = files
            .into_iter()
            .chain([datadir.join("onion-addresses")])
            .chain(settings.store.count_file.clone());
        let folders = settings.tor.state_dir.parent().into_iter().chain(datadir.ancestors());
        let tor = [settings.tor.state_dir.clone(), settings.tor.cache_dir.clone()];
        let seed = datadir.join("seed");
        Self {
            files: files.filter(is_missing).collect(),
            folders: folders.map(Path::to_owned).filter(is_missing).collect(),
            tor: tor.into_iter().filter(is_missing).collect(),
            had_seed: seed.exists(),
            seed,
        }
    }

    /// Removes it, unless a seed was made: what goes with it stays. What cannot be removed harms nobody.
    pub(crate) fn clear(self) {
        if !self.had_seed && self.seed.exists() {
            return;
        }
        for file in &self.files {
            let _ = std::fs::remove_file(file);
        }
        for folder in &self.tor {
            let _ = std::fs::remove_dir_all(folder);
        }
        for folder in &self.folders {
            // Not where somebody has put anything there meanwhile.
            let _ = std::fs::remove_dir(folder);
        }
    }
}

fn is_missing(path: &PathBuf) -> bool {
    !path.as_os_str().is_empty() && std::fs::symlink_metadata(path).is_err()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(datadir: &Path) -> Settings {
        let mut settings = Settings { datadir: datadir.to_owned(), ..Settings::default() };
        settings.resolve();
        settings
    }

    #[test]
    fn what_was_not_there_goes_and_what_was_there_stays() {
        let folder = tempfile::tempdir().unwrap();
        let datadir = folder.path().join("above/node");
        let fresh = Fresh::look(&settings(&datadir));
        std::fs::create_dir_all(datadir.join("tor/state/keys")).unwrap();
        for file in ["payjoind.sqlite", "payjoind.sqlite-wal", "payjoind.sqlite.lock", "payjoind.count"] {
            std::fs::write(datadir.join(file), "").unwrap();
        }
        fresh.clear();
        assert!(!folder.path().join("above").exists());

        std::fs::create_dir_all(&datadir).unwrap();
        std::fs::write(datadir.join("payjoind.sqlite"), "kept").unwrap();
        let fresh = Fresh::look(&settings(&datadir));
        std::fs::write(datadir.join("payjoind.sqlite.lock"), "").unwrap();
        fresh.clear();
        assert_eq!(std::fs::read_dir(&datadir).unwrap().count(), 1);
        assert_eq!(std::fs::read_to_string(datadir.join("payjoind.sqlite")).unwrap(), "kept");
    }

    #[test]
    fn nothing_goes_once_a_seed_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let fresh = Fresh::look(&settings(folder.path()));
        for file in ["seed", "payjoind.sqlite"] {
            std::fs::write(folder.path().join(file), "").unwrap();
        }
        fresh.clear();
        assert!(folder.path().join("payjoind.sqlite").exists());
    }
}
