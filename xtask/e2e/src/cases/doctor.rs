//! `payjoind doctor` before good and broken set-ups.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask_programs::ports;

use super::Case;
use crate::harness::tls::Certificate;
use crate::harness::{Fields, Mailroom, World};

/// The case.
pub(super) const CASES: &[Case] = &[Case {
    name: "doctor",
    about: "one good set-up and eight broken ones: each fault is found and told with what to do, and the exit code says it",
    run: doctor,
}];

/// What is changed in a good set-up, where the fault is found, and a word of the remedy.
struct Fault<'a> {
    /// Lines of the settings, and what stands in their place.
    change: (&'a str, String),
    check: &'a str,
    word: &'a str,
}

fn doctor(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let (url, cookie, key) = (world.chain.url(), world.chain.cookie(), &world.tls.key);
    let good = settings(world, &directory, &relay)?;
    let (healthy, findings) = examine(world, "good", &good, |_| Ok(()))?;
    let is_good = findings.iter().all(|finding| finding["state"] == "good");
    ensure!(healthy && is_good, "a good set-up: {findings:?}");

    let other = Certificate::new(&world.folder("other")?)?;
    let nowhere = "\"http://127.0.0.1:1\"".to_owned();
    let fees = "[policy]\nmin_fee_rate = 5\nmax_fee_rate = 2\n[payjoin]".to_owned();
    let quoted = |text: &str| format!("{text:?}");
    let faults = [
        Fault { change: (&quoted(url), nowhere.clone()), check: "bitcoind", word: "[bitcoind]" },
        Fault { change: (&format!("{cookie:?}"), quoted("/nowhere")), check: "bitcoind", word: "/nowhere" },
        Fault { change: ("regtest", "signet".to_owned()), check: "bitcoind", word: "signet" },
        Fault { change: (&quoted(directory.url()), nowhere), check: "directory", word: "[payjoin]" },
        Fault { change: ("[payjoin]", fees), check: "settings", word: "`max_fee_rate`" },
        Fault {
            change: (&format!("{key:?}"), format!("{:?}", other.key)),
            check: "https",
            word: "certificate",
        },
    ];
    for (number, Fault { change: (before, after), check, word }) in faults.iter().enumerate() {
        let settings = good.replace(before, after);
        ensure!(settings != good, "nothing is changed: {before}");
        let (healthy, findings) = examine(world, &format!("broken-{number}"), &settings, |_| Ok(()))?;
        told(healthy, &findings, check, word)?;
    }
    let open = |folder: &Path| Ok(fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?);
    let (healthy, findings) = examine(world, "open", &good, open)?;
    told(healthy, &findings, "folder", "chmod 700")?;
    let damage = |folder: &Path| Ok(fs::write(folder.join("payjoind.sqlite"), "no database".repeat(100))?);
    let (healthy, findings) = examine(world, "damaged", &good, damage)?;
    told(healthy, &findings, "database", "payjoind rescue")
}

/// With everything that can be looked at.
fn settings(world: &World<'_>, directory: &Mailroom, relay: &Mailroom) -> Result<String> {
    let (url, cookie, tls) = (world.chain.url(), world.chain.cookie(), &world.tls);
    let (directory, relay, port) = (directory.url(), relay.url(), ports::free()?);
    let (certificate, key) = (&tls.certificate, &tls.key);
    Ok(format!(
        "network = \"regtest\"\n[bitcoind]\nurl = {url:?}\ncookie = {cookie:?}\n[payjoin]\ndirectories = [{directory:?}]\n\
         ohttp_relays = [{relay:?}]\n[http]\nlisten = \"127.0.0.1:{port}\"\npublic_endpoint = \"https://localhost\"\n\
         certificate = {certificate:?}\nkey = {key:?}\n"
    ))
}

/// The fault is told where it is, with what to do.
fn told(healthy: bool, findings: &[Value], check: &str, word: &str) -> Result<()> {
    ensure!(!healthy, "the exit code says that all is well: {findings:?}");
    let found = findings.iter().find(|finding| finding["check"] == check && finding["state"] == "trouble");
    let found = found.with_context(|| format!("nothing is wrong with {check}: {findings:?}"))?;
    ensure!(found.text("text")?.contains(word), "no word of {word}: {found}");
    Ok(())
}

/// Whether the exit code says that all is well, and what was found.
fn examine(
    world: &World<'_>,
    name: &str,
    settings: &str,
    change: impl FnOnce(&Path) -> Result<()>,
) -> Result<(bool, Vec<Value>)> {
    let folder = world.folder(name)?;
    fs::write(folder.join("payjoind.toml"), settings)?;
    change(&folder)?;
    let output =
        Command::new(world.payjoind()).arg("--datadir").arg(&folder).args(["--json", "doctor"]).output()?;
    let told: Value = serde_json::from_slice(&output.stdout).context("doctor prints no JSON")?;
    Ok((output.status.success(), told.list("findings")?.to_vec()))
}
