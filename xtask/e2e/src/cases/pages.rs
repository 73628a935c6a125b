//! The pages for operators of a node: their commands are run as they are printed, up to a channel that can be used.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use bitcoin::{Amount, OutPoint};
use serde_json::Value;
use xtask_programs::process::{self, Server};
use xtask_programs::workspace;

use super::Case;
use crate::harness::payer::amount_of;
use crate::harness::{Fields, Foreign, Invoice, Mailroom, World, wait};

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "init-to-channel",
        about: "the commands of docs/guide.md, run as printed: from an empty folder to a channel that can be used",
        run: guide,
    },
    Case {
        name: "cln-docs",
        about: "the commands of docs/core-lightning.md, run as printed: init finds the node, doctor finds no fault, a channel opens",
        run: |world| {
            let own = world.cln("own", &[])?;
            first_channel(world, &*own, ".lightning", "docs/core-lightning.md", &[])
        },
    },
    Case {
        name: "lnd-docs",
        about: "the commands of docs/lnd.md, run as printed: the macaroon, init, doctor, a channel",
        run: |world| {
            let own = world.own_lnd("own", &[])?;
            own.write_settings()?;
            let lncli = own.as_foreign().client().join(" ");
            first_channel(world, own.as_foreign(), ".lnd", "docs/lnd.md", &[("lncli", &lncli)])
        },
    },
];

const PATIENCE: Duration = Duration::from_secs(60);

/// Under this heading are the commands.
const HEADING: &str = "to the first channel";

/// An operator at a shell of his own.
struct Shell<'a> {
    home: PathBuf,
    /// Words of the page, and what they are here.
    instead: Vec<(&'a str, String)>,
    /// See [`environment`].
    environment: Vec<(&'static str, String)>,
}

impl Shell<'_> {
    fn command(&self, line: &str) -> Command {
        let line = self.instead.iter().fold(line.to_owned(), |line, (word, here)| line.replace(word, here));
        let mut command = Command::new("sh");
        command.args(["-c", &line]).env("HOME", &self.home).current_dir(&self.home);
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs a line to its end; the last line of what it prints is JSON where it is asked for.
    fn run(&self, line: &str) -> Result<String> {
        process::output(&mut self.command(line)).with_context(|| format!("the page's command: {line}"))
    }

    fn json(&self, line: &str) -> Result<Value> {
        let printed = self.run(line)?;
        serde_json::from_str(&printed).with_context(|| format!("{line}: not JSON: {printed}"))
    }

    /// Runs a line beside the others.
    fn background(&self, line: &str, log: &Path) -> Result<Server> {
        let log = fs::File::create(log)?;
        Server::start(self.command(&format!("exec {line}")).stdout(log.try_clone()?).stderr(Stdio::from(log)))
    }
}

/// The lines of the page's shell blocks, without what is said about them.
fn commands(page: &str) -> Result<Vec<String>> {
    let text = fs::read_to_string(workspace::root().join(page))?;
    let begin = text.lines().skip_while(|line| !(line.starts_with("## ") && line.contains(HEADING)));
    let (mut lines, mut in_shell) = (Vec::new(), false);
    for line in begin.skip(1).take_while(|line| !line.starts_with("## ")) {
        match line {
            "```sh" => in_shell = true,
            "```" => in_shell = false,
            line if in_shell => lines.push(line.split("  #").next().unwrap_or_default().trim().to_owned()),
            _ => {}
        }
    }
    ensure!(!lines.is_empty(), "{page} has no commands");
    Ok(lines)
}

/// Runs the page's commands, up to six blocks after the payment. What they started goes on; with it, the channel's output.
fn follow(
    world: &World<'_>,
    shell: &Shell<'_>,
    page: &str,
    relay: &Mailroom,
    await_start: impl Fn(&Shell<'_>) -> Result<()>,
) -> Result<(Vec<Server>, OutPoint)> {
    let mut running = Vec::new();
    for line in commands(page)? {
        match line.strip_suffix('&') {
            Some(line) => {
                running.push(shell.background(line, &shell.home.join("run.log"))?);
                await_start(shell)?;
            }
            // The QR code is for people.
            None if line.starts_with("payjoind receive") => pay(world, shell, relay, &line)?,
            None => drop(shell.run(&line)?),
        }
    }
    let told = shell.json("payjoind --json channel list")?;
    let intent = told.list("intents")?.first().context("no channel was queued")?.clone();
    let funding = OutPoint { txid: intent.txid("txid")?, vout: u32::try_from(intent.number("vout")?)? };
    world.mine(6)?;
    Ok((running, funding))
}

fn first_channel(
    world: &World<'_>,
    own: &dyn Foreign,
    folder: &str,
    page: &str,
    more: &[(&str, &str)],
) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let peer = world.daemon("peer")?;
    let mut instead = vec![
        ("https://directory.example", directory.url().to_owned()),
        ("https://relay.example", relay.url().to_owned()),
        ("02ab…cd@203.0.113.7:9735", peer.peer.clone()),
    ];
    instead.extend(more.iter().map(|(word, here)| (*word, (*here).to_owned())));
    let shell = Shell { home: home(world, own, folder)?, instead, environment: environment(world)? };
    for amount in [300_000, 100_000] {
        own.give(&world.chain, Amount::from_sat(amount))?;
    }
    let (_running, funding) = follow(world, &shell, page, &relay, await_coins)?;
    own.await_channel(funding)?;
    peer.await_channel(funding)?;
    shell.run("payjoind stop").map(drop)
}

fn guide(world: &World<'_>) -> Result<()> {
    let [relay, directory] = world.mailrooms()?;
    let peer = world.daemon("peer")?;
    let instead = vec![
        ("https://directory.example", directory.url().to_owned()),
        ("https://relay.example", relay.url().to_owned()),
        ("02ab…cd@203.0.113.7:9735", peer.peer.clone()),
        ("--network signet", "--network regtest".to_owned()),
    ];
    let home = home_beside_bitcoind(world)?;
    let shell = Shell { home, instead, environment: environment(world)? };
    let answers = |shell: &Shell<'_>| {
        wait::until("the daemon answers", PATIENCE, || Ok(shell.run("payjoind status").ok())).map(drop)
    };
    let (_running, funding) = follow(world, &shell, "docs/guide.md", &relay, answers)?;
    peer.await_channel(funding)?;
    wait::until("the channel can be used", PATIENCE, || {
        let told = shell.json("payjoind --json channel list")?;
        Ok(told.list("channels")?.iter().any(|channel| channel["usable"] == true).then_some(()))
    })?;
    shell.run("payjoind stop").map(drop)
}

/// A home with the folders of the operator's node and of bitcoind.
fn home(world: &World<'_>, own: &dyn Foreign, folder: &str) -> Result<PathBuf> {
    let home = home_beside_bitcoind(world)?;
    symlink(own.folder(), home.join(folder))?;
    Ok(home)
}

fn home_beside_bitcoind(world: &World<'_>) -> Result<PathBuf> {
    let home = world.folder("home")?;
    let bitcoind = world.chain.cookie().ancestors().nth(2).context("a cookie without folders")?;
    symlink(bitcoind, home.join(".bitcoin"))?;
    Ok(home)
}

/// What the page's reader has by himself, or need not have.
fn environment(world: &World<'_>) -> Result<Vec<(&'static str, String)>> {
    let beside = world.payjoind().parent().context("a program without a folder")?.display();
    let path = std::env::var("PATH").unwrap_or_default();
    Ok(vec![
        ("PATH", format!("{beside}:{path}")),
        // The port of this bitcoind is none that anybody would guess.
        ("PAYJOIND_BITCOIND_URL", world.chain.url().to_owned()),
    ])
}

/// Whoever reads the page waits until the daemon is there.
fn await_coins(shell: &Shell<'_>) -> Result<()> {
    let mut last = String::new();
    let seen = wait::until("the daemon knows its coins", PATIENCE, || {
        let told = shell.json("payjoind --json wallet balance");
        last = format!("{told:?}");
        Ok(told.ok().filter(|told| told["confirmed_sat"].as_u64() >= Some(400_000)).map(drop))
    });
    let log = fs::read_to_string(shell.home.join("run.log")).unwrap_or_default();
    seen.with_context(|| format!("last: {last}\n{log}"))
}

/// Somebody scans the code and pays it.
fn pay(world: &World<'_>, shell: &Shell<'_>, relay: &Mailroom, line: &str) -> Result<()> {
    let told = shell.json(&line.replace("payjoind ", "payjoind --json "))?;
    let uri = told.text("uri")?.to_owned();
    let invoice = Invoice {
        id: told.text("invoice")?.to_owned(),
        endpoint: told.text("endpoint")?.to_owned(),
        address: told.text("address")?.to_owned(),
        amount: amount_of(&uri)?,
        uri,
    };
    world.finish(world.begin(&invoice, relay)?).map(drop)
}
