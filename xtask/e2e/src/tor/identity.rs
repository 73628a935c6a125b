//! Authorities' keys. Making them takes seconds, so they are kept.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::private_dir;
use super::provide::{Programs, folder};
use xtask_programs::process;

/// tor-gencert's certificates are good for a year here.
const MONTHS: &str = "12";
const KEEP: Duration = Duration::from_secs(300 * 24 * 60 * 60);

/// What the rest of the network must know about an authority.
pub(super) struct Identity {
    pub(super) name: &'static str,
    /// Of its certificate, in hex.
    pub(super) v3ident: String,
    /// Of its relay's RSA key, in hex.
    pub(super) rsa: String,
    /// Its relay's Ed25519 key, in base64.
    pub(super) ed25519: String,
    dir: PathBuf,
}

impl Identity {
    pub(super) fn provide(programs: &Programs, name: &'static str) -> Result<Self> {
        let kept = folder().join("keys");
        let dir = kept.join(name);
        let _lock = process::lock(&folder().join("keys.lock"))?;
        if !is_fresh(&dir) {
            private_dir(&kept)?;
            // Elsewhere first: half-made keys are never found.
            let work = tempfile::Builder::new().prefix(".new-").tempdir_in(&kept)?;
            make(programs, work.path()).context("cannot make an authority's keys")?;
            if dir.exists() {
                fs::remove_dir_all(&dir)?;
            }
            fs::rename(work.keep(), &dir)?;
        }
        let word = |file: &str, line: &str, index: usize| -> Result<String> {
            let text = fs::read_to_string(dir.join(file))?;
            let line = text.lines().find(|found| found.starts_with(line));
            let word = line.and_then(|line| line.split_whitespace().nth(index));
            Ok(word.with_context(|| format!("{file} of {name} is not as expected"))?.to_owned())
        };
        Ok(Self {
            name,
            v3ident: word("keys/authority_certificate", "fingerprint ", 1)?,
            rsa: word("fingerprint", "", 1)?,
            ed25519: word("fingerprint-ed25519", "", 1)?,
            dir,
        })
    }

    /// Puts the keys into a node's data folder.
    pub(super) fn install(&self, node: &Path) -> Result<()> {
        private_dir(&node.join("keys"))?;
        for file in fs::read_dir(self.dir.join("keys"))? {
            let file = file?;
            fs::copy(file.path(), node.join("keys").join(file.file_name()))?;
        }
        Ok(())
    }
}

fn is_fresh(dir: &Path) -> bool {
    let made = fs::metadata(dir.join("keys/authority_certificate")).and_then(|file| file.modified());
    made.is_ok_and(|made| made.elapsed().is_ok_and(|age| age < KEEP))
}

fn make(programs: &Programs, dir: &Path) -> Result<()> {
    let keys = dir.join("keys");
    private_dir(&keys)?;
    let mut gencert = Command::new(&programs.gencert)
        .args(["--create-identity-key", "-m", MONTHS, "--passphrase-fd", "0"])
        .arg("-i")
        .arg(keys.join("authority_identity_key"))
        .arg("-s")
        .arg(keys.join("authority_signing_key"))
        .arg("-c")
        .arg(keys.join("authority_certificate"))
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    gencert.stdin.take().context("no pipe to tor-gencert")?.write_all(b"none\n")?;
    ensure!(gencert.wait()?.success(), "tor-gencert failed");
    // An authority that is nobody's keeps tor from asking the public ones.
    let nobody = format!("x orport=1 v3ident={0} 127.0.0.1:1 {0}", "F".repeat(40));
    process::output(
        Command::new(&programs.tor)
            .args(["--quiet", "--ignore-missing-torrc", "-f", "/nonexistent"])
            .args(["--defaults-torrc", "/nonexistent", "--SocksPort", "0", "--AssumeReachable", "1"])
            .args(["--ORPort", "127.0.0.1:1", "--Address", "127.0.0.1", "--DirAuthority", &nobody])
            .arg("--DataDirectory")
            .arg(dir)
            .arg("--list-fingerprint"),
    )?;
    Ok(())
}
