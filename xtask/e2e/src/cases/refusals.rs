//! Settings that cannot work, each with what must be said of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use xtask_programs::ports;

use crate::harness::World;
use crate::harness::json::Fields;

/// What `payjoind.toml` holds, and what the message says after the file's name.
type Row = (&'static str, &'static str);

/// TOML that is none, and values of another kind.
const FORM: &[Row] = &[
    ("nonsense", "line 1,"),
    ("network = signet", "line 1, `network`: "),
    ("network = \"moon\"", "line 1, `network`: unknown variant `moon`"),
    ("net = \"signet\"", "line 1, `net`: unknown field `net`, expected one of `network`"),
    ("\n\n[bitcoin]\nurl = \"x\"", "line 3,"),
    ("[bitcoind]\nport = 8332", "line 2, [bitcoind] `port`: unknown field `port`, expected one of `url`"),
    ("[bitcoind]\nurl = 8332", "line 2, [bitcoind] `url`: invalid type: integer `8332`, expected a string"),
    ("[bitcoind]\nurl = \"a\"\nurl = \"b\"", "line 3, [bitcoind] `url`: "),
    ("[bitcoind]\nurl = \"http://127.0.0.1", "line 2, [bitcoind] `url`: "),
    ("[bitcoind]\nblock_poll_ms = -1", "line 2, [bitcoind] `block_poll_ms`: invalid value: integer `-1`"),
    ("[bitcoind]\nblock_poll_ms = \"1s\"", "line 2, [bitcoind] `block_poll_ms`: invalid type: string \"1s\""),
    ("[lightning]\nbackend = \"eclair\"", "line 2, [lightning] `backend`: unknown variant `eclair`"),
    ("[lightning]\nlisten = \"9735\"", "line 2, [lightning] `listen`: invalid socket address syntax"),
    (
        "[lightning]\nlisten = \"localhost:9735\"",
        "line 2, [lightning] `listen`: invalid socket address syntax",
    ),
    ("[lightning]\nseveral_at_once = [\"02ab\"]", "line 2, [lightning] `several_at_once`: "),
    ("[lightning]\nbirthday = -1", "line 2, [lightning] `birthday`: invalid value: integer `-1`"),
    ("[http]\nlisten = \"0.0.0.0:99999\"", "line 2, [http] `listen`: invalid socket address syntax"),
    ("[http]\nplain_listen = \"unix:\"", "line 2, [http] `plain_listen`: there is no path after `unix:`"),
    ("[http]\nplain_listen = \"/run/x\"", "line 2, [http] `plain_listen`: neither IP:PORT nor unix:PATH"),
    (
        "[payjoin]\ndirectories = \"https://a.example\"",
        "line 2, [payjoin] `directories`: invalid type: string",
    ),
    (
        "[policy]\ntop_up = \"yes\"",
        "line 2, [policy] `top_up`: invalid type: string \"yes\", expected a boolean",
    ),
    ("[policy]\nmax_fee = 1.5", "line 2, [policy] `max_fee`: invalid type: floating point `1.5`"),
    ("[tor]\nport = 65536", "line 2, [tor] `port`: invalid value: integer `65536`"),
];

/// Values that are none of theirs.
const VALUES: &[Row] = &[
    (
        "[bitcoind]\nurl = \"127.0.0.1:8332\"",
        "[bitcoind] `url` \"127.0.0.1:8332\" is no URL: begin it with https://",
    ),
    (
        "[bitcoind]\nurl = \"ws://127.0.0.1\"",
        "[bitcoind] `url` \"ws://127.0.0.1\" begins with ws://: use http:// or https://",
    ),
    (
        "[bitcoind]\nurl = \"http://me:hunter2@127.0.0.1\"",
        "[bitcoind] `url` holds a user or a password: set `user` and `password` instead",
    ),
    ("[bitcoind]\nurl = \"http://127.0.0.1:0\"", "has a port that is none: use a number from 1 to 65535"),
    (
        "[bitcoind]\nurl = \"http://127.0.0.1/?wallet=x\"",
        "has a query or a fragment: remove the ? or # and what follows",
    ),
    ("[bitcoind]\nuser = \"me\"", "[bitcoind] `user` goes with a `password`: set it, or remove `user`"),
    (
        "[bitcoind]\npassword = \"hunter2\"",
        "[bitcoind] `password` goes with a `user`: set it, or remove `password`",
    ),
    (
        "[bitcoind]\nuser = \"me\"\npassword = \"hunter2\"\ncookie = \"c\"",
        "[bitcoind] `cookie` and `user` are two ways in: remove one of them",
    ),
    ("[bitcoind]\nuser = \"\"\npassword = \"hunter2\"", "[bitcoind] `user` is empty or holds a colon"),
    ("[bitcoind]\ncookie = \"\"", "[bitcoind] `cookie` is empty: name a file, or remove the line"),
    ("[bitcoind]\nblock_poll_ms = 9", "[bitcoind] `block_poll_ms` must be from 10 to 60000, not 9"),
    (
        "[bitcoind]\nmempool_poll_ms = 60001",
        "[bitcoind] `mempool_poll_ms` must be from 10 to 60000, not 60001",
    ),
    ("[lightning]\nlisten = \"0.0.0.0:0\"", "[lightning] `listen` has port 0, which nobody could be told"),
    ("[lightning]\nmin_depth = 0", "[lightning] `min_depth` must be from 1 to 144, not 0"),
    ("[lightning]\naccept_seconds = 0", "[lightning] `accept_seconds` must be from 1 to 3600, not 0"),
    ("[lightning]\nsign_seconds = 3601", "[lightning] `sign_seconds` must be from 1 to 3600, not 3601"),
    ("[lightning]\nlookahead = 0", "[lightning] `lookahead` must be from 1 to 100000, not 0"),
    (
        "[lightning]\nbackend = \"cln\"\nlisten = \"0.0.0.0:9735\"",
        "[lightning] `listen` is for the embedded node: remove it",
    ),
    (
        "[lightning]\nbackend = \"cln\"\n[cln]\nsocket = \"\"",
        "[cln] `socket` is empty: name a file, or remove the line",
    ),
    (
        "[lightning]\nbackend = \"lnd\"\n[lnd]\naddress = \"https://127.0.0.1:8080\"",
        "[lnd] `address` \"https://127.0.0.1:8080\" begins with a scheme: remove it, only HOST:PORT is wanted, such as 127.0.0.1:8080",
    ),
    (
        "[lightning]\nbackend = \"lnd\"\n[lnd]\naddress = \"127.0.0.1\"",
        "[lnd] `address` \"127.0.0.1\" names no port: add :PORT, such as 127.0.0.1:8080",
    ),
    ("[lnd]\nlease_seconds = 9", "[lnd] `lease_seconds` must be from 10 to 2592000, not 9"),
    (
        "[payjoin]\ndirectories = [\"a.example\"]",
        "[payjoin] `directories` \"a.example\" is no URL: begin it with https://",
    ),
    (
        "[payjoin]\ndirectories = [\"ftp://a.example\"]",
        "[payjoin] `directories` \"ftp://a.example\" begins with ftp://: use https:// or http://",
    ),
    (
        "[payjoin]\ndirectories = [\"https://\"]",
        "[payjoin] `directories` \"https://\" names no host: it must name a machine",
    ),
    (
        "[payjoin]\ndirectories = [\"https://a.example:0\"]",
        "has a port that is none: use a number from 1 to 65535",
    ),
    (
        "[payjoin]\ndirectories = [\"https://me:hunter2@a.example\"]",
        "[payjoin] `directories` holds a user or a password: remove what stands before the @",
    ),
    ("[payjoin]\ndirectories = [\"https://a.example/?x\"]", "has a query or a fragment"),
    ("[payjoin]\ndirectories = [\"https://a.example/#x\"]", "has a query or a fragment"),
    ("[payjoin]\ndirectories = [\"https://a b.example\"]", "holds a letter or a space that no URL has"),
    (
        "[payjoin]\nohttp_relays = [\"b.example\"]",
        "[payjoin] `ohttp_relays` \"b.example\" is no URL: begin it with https://",
    ),
    ("[payjoin]\nohttp_relays = [\"https://b.example:99999\"]", "has a port that is none"),
    (
        "[payjoin]\nohttp_relays = [\"https://[::1\"]",
        "has a host that is none: use a name, an IP address, or an IPv6 address in [brackets]",
    ),
    (
        "[payjoin]\ndirectories = [\"https://a.example\"]",
        "[payjoin] directories are reached through relays only: set `ohttp_relays`",
    ),
    (
        "[payjoin]\nsocks = \"127.0.0.1\"",
        "[payjoin] `socks` \"127.0.0.1\" names no port: add :PORT, such as 127.0.0.1:9050",
    ),
    (
        "[payjoin]\nsocks = \"socks5://127.0.0.1:9050\"",
        "[payjoin] `socks` \"socks5://127.0.0.1:9050\" begins with a scheme",
    ),
    ("[payjoin]\nsocks = \"me:hunter2@127.0.0.1:9050\"", "[payjoin] `socks` holds a user or a password"),
    ("[payjoin]\ncode_hours = 0", "[payjoin] `code_hours` must be from 1 to 8784, not 0"),
    ("[payjoin]\npatience_hours = 8785", "[payjoin] `patience_hours` must be from 1 to 8784, not 8785"),
    ("[payjoin]\nroot_certificate = \"\"", "[payjoin] `root_certificate` is empty"),
    ("[tor]\nport = 0", "[tor] `port` must be from 1 to 65535, not 0"),
    ("[tor]\nnickname = \"../x\"", "[tor] `nickname` has small letters, digits, - and _ only, not \"../x\""),
    ("[tor]\nstate_dir = \"t\"\ncache_dir = \"t\"", "[tor] `cache_dir` is `state_dir`, too"),
    ("[tor]\nonly = true", "[tor] `only = true` needs `enabled = true`"),
    (
        "[policy]\nmin_fee_rate = 101",
        "[policy] `min_fee_rate` is above `max_fee_rate`: no payment could be served; lower one, or raise the other",
    ),
    ("[policy]\nmax_fee_rate = 0", "[policy] `max_fee_rate` must be"),
    ("[policy]\nchannel_seconds = 0", "[policy] `channel_seconds` must be from 1 to 3600, not 0"),
    ("[policy]\nexchange_seconds = 9", "[policy] `exchange_seconds` must be from 10 to 3600, not 9"),
    ("[policy]\nfallback_seconds = 0", "[policy] `fallback_seconds` must be from 1 to 2678400, not 0"),
    ("[policy]\nburial = 0", "[policy] `burial` must be from 1 to 2016, not 0"),
    ("[fees]\ndefend = 101", "[fees] `defend` must be from 0 to 100, not 101"),
    ("[fees]\nfallback = 0", "[fees] `fallback` must be"),
    ("[store]\nkeep_days = 0", "[store] `keep_days` must be from 1 to 36500, not 0"),
    ("[store]\ncount_file = \"\"", "[store] `count_file` is empty"),
];

/// The endpoint for payers.
const ENDPOINT: &[Row] = &[
    ("listen = \"127.0.0.1:1\"", "[http] `listen` is for TLS: set `certificate` and `key`"),
    ("certificate = \"c.pem\"\nkey = \"k.pem\"", "[http] `certificate` and `key` are for TLS: set `listen`"),
    ("plain_listen = \"127.0.0.1:1\"", "[http] set `public_endpoint` to the URL that payers will see"),
    ("plain_listen = \"0.0.0.0:1\"", "[http] `plain_listen` has no TLS and is for a proxy on this machine"),
    (
        "public_endpoint = \"https://pay.example\"",
        "[http] nobody would answer at `public_endpoint`: set `listen` or `plain_listen`",
    ),
    (
        "plain_listen = \"127.0.0.1:0\"\npublic_endpoint = \"https://pay.example\"",
        "[http] `plain_listen` has port 0",
    ),
    (
        "plain_listen = \"127.0.0.1:1\"\npublic_endpoint = \"pay.example\"",
        "[http] `public_endpoint` \"pay.example\" is no URL",
    ),
    (
        "plain_listen = \"127.0.0.1:1\"\npublic_endpoint = \"http://pay.example\"",
        "[http] `public_endpoint` is an https URL, or http with an onion address (BIP 78), and not \"http://pay.example\"",
    ),
    (
        "plain_listen = \"127.0.0.1:1\"\npublic_endpoint = \"https://me@pay.example\"",
        "[http] `public_endpoint` holds a user or a password",
    ),
    (
        "plain_listen = \"127.0.0.1:1\"\npublic_endpoint = \"https://pay.example/?a\"",
        "has a query or a fragment",
    ),
    ("plain_listen = \"127.0.0.1:1\"\npublic_endpoint = \"https://:443\"", "names no host"),
    (
        "plain_listen = \"127.0.0.1:1\"\npublic_endpoint = \"https://pay.example\"\n[lightning]\nlisten = \"127.0.0.1:1\"",
        "[lightning] `listen` is 127.0.0.1:1, as [http] `plain_listen` is: give each a port of its own",
    ),
];

pub(super) fn settings(world: &World<'_>) -> Result<()> {
    let endpoint = ENDPOINT.iter().map(|(text, told)| (format!("[http]\n{text}"), *told));
    let rows = FORM.iter().chain(VALUES).map(|(text, told)| ((*text).to_owned(), *told)).chain(endpoint);
    let rows: Vec<_> = rows.collect();
    ensure!(rows.len() >= 60, "only {} settings", rows.len());
    let folder = world.folder("refused")?;
    let file = folder.join("payjoind.toml");
    for (text, told) in &rows {
        fs::write(&file, text)?;
        let refusal = refusal(world, &folder, &[], true).with_context(|| text.clone())?;
        let rest = refusal.strip_prefix(&format!("{}: ", file.display()));
        let rest = rest.with_context(|| format!("{text:?} should name the file: {refusal}"))?;
        ensure!(rest.contains(told), "{text:?} should say {told:?}: {rest}");
        ensure!(!rest.contains('\n') && !rest.contains("hunter2"), "one line without passwords: {rest}");
        only_settings(&folder).with_context(|| text.clone())?;
    }
    late(world, &folder)?;
    unmade(world, &folder)?;
    homeless(world, &folder)
}

/// What shows only when files, ports and bitcoind are asked. It leaves nothing behind either.
fn late(world: &World<'_>, folder: &Path) -> Result<()> {
    let bitcoind =
        format!("[bitcoind]\nurl = {:?}\ncookie = {:?}\n", world.chain.url(), world.chain.cookie());
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = taken.local_addr()?;
    let proxied = "[http]\npublic_endpoint = \"https://pay.example\"\n";
    let tls = format!("listen = \"127.0.0.1:{}\"\ncertificate = \"c.pem\"\nkey = \"k\"", ports::free()?);
    let regtest = format!("network = \"regtest\"\n{bitcoind}");
    let away = "[bitcoind]\nurl = \"http://127.0.0.1:1\"\nuser = \"me\"\npassword = \"hunter2\"";
    let rows = [
        (format!("{regtest}{proxied}plain_listen = \"{taken}\""), format!("cannot serve payers on {taken}")),
        (format!("{regtest}{proxied}{tls}"), "c.pem: No such file".to_owned()),
        (format!("{regtest}[lightning]\nlisten = \"{taken}\""), "cannot listen for peers on".to_owned()),
        (format!("{regtest}[payjoin]\nroot_certificate = \"no.der\""), "no.der".to_owned()),
        (bitcoind, "bitcoind is on regtest, not on signet".to_owned()),
        (away.to_owned(), "is it running".to_owned()),
        ("[bitcoind]\ncookie = \"none\"".to_owned(), "cannot read the cookie file".to_owned()),
    ];
    for (text, told) in rows {
        fs::write(folder.join("payjoind.toml"), &text)?;
        let refusal = refusal(world, folder, &[], true).with_context(|| text.clone())?;
        ensure!(
            refusal.contains(&told) && !refusal.contains('\n'),
            "{text:?} should say {told:?}: {refusal}"
        );
        only_settings(folder).with_context(|| text.clone())?;
    }
    Ok(())
}

/// Nor a folder that was not there.
fn unmade(world: &World<'_>, folder: &Path) -> Result<()> {
    let none = folder.with_file_name("nowhere").join("node");
    let flags =
        ["--network", "regtest", "--bitcoind-url", "http://127.0.0.1:1", "--bitcoind-cookie", "/none"];
    refusal(world, &none, &flags, true)?;
    ensure!(!folder.with_file_name("nowhere").exists(), "a refused start made a folder");
    Ok(())
}

/// Without HOME nothing has a usual place.
fn homeless(world: &World<'_>, folder: &Path) -> Result<()> {
    fs::write(folder.join("payjoind.toml"), "")?;
    let told = refusal(world, folder, &[], false)?;
    ensure!(told.contains("[bitcoind] `cookie` has no usual place, because HOME is not set"), "{told}");
    let mut command = Command::new(world.payjoind());
    let output = command.args(["--json", "run"]).current_dir(folder).env_remove("HOME").output()?;
    let told: Value = serde_json::from_slice(&output.stdout)?;
    ensure!(told.text("error")?.contains("say which with --datadir DIR"), "{told}");
    only_settings(folder)
}

/// Why `run` does not start in this folder.
fn refusal(world: &World<'_>, folder: &Path, flags: &[&str], home: bool) -> Result<String> {
    let mut command = Command::new(world.payjoind());
    command.arg("--datadir").arg(folder).args(["--json", "run"]).args(flags);
    if !home {
        command.env_remove("HOME");
    }
    let output = command.output()?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(output.status.code() == Some(1), "it should be refused: {} {told}", output.status);
    ensure!(told.lines().count() == 1, "one line: {told}");
    Ok(serde_json::from_str::<Value>(&told)?.text("error")?.to_owned())
}

fn only_settings(folder: &Path) -> Result<()> {
    let there = fs::read_dir(folder)?.map(|entry| Ok(entry?.file_name())).collect::<Result<Vec<_>>>()?;
    ensure!(there == ["payjoind.toml"], "a refused start leaves {there:?}");
    Ok(())
}
