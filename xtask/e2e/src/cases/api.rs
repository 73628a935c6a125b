//! The API: what tokens allow, walked by the OpenAPI document; what is paid is paid once.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bitcoin::Amount;
use reqwest::blocking::Client;
use serde_json::{Value, json};
use xtask_programs::ports;

use super::Case;
use crate::harness::daemon::{Daemon, Options};
use crate::harness::world::Sent;
use crate::harness::{Certificate, FEE_RATE, Fields, World, raw};

/// The cases.
pub(super) const CASES: &[Case] = &[
    Case {
        name: "api-tokens",
        about: "the API answers nobody without a token and nothing beyond its rights, whatever is sent; what is paid by it is paid once",
        run: tokens,
    },
    Case {
        name: "api-health",
        about: "over TLS it lives and is ready, and tells its numbers to who may read; the log is JSON and holds no token",
        run: health,
    },
];

/// Bodies that are no arguments of anything.
const GARBAGE: &[&[u8]] = &[
    b"",
    b"{}",
    b"null",
    b"[]",
    b"nonsense",
    b"\xff\xfe\x00",
    b"{\"expires\":0,\"amount\":-1,\"peer\":7,\"uri\":[],\"exchange\":\"x\"}",
    b"{\"exchange\":18446744073709551616,\"intent\":1e400}",
    b"\"\x1b[31m\"",
];

/// A program of the operator's.
struct Program {
    api: SocketAddr,
}

struct Told {
    status: u16,
    body: String,
}

impl Told {
    fn json(&self) -> Result<Value> {
        serde_json::from_str(&self.body).with_context(|| format!("not JSON: {} {}", self.status, self.body))
    }
}

impl Program {
    fn ask(&self, line: &str, token: Option<&str>, key: Option<&str>, body: &[u8]) -> Result<Told> {
        ask(self.api, line, token, key, body)
    }

    fn call(&self, path: &str, token: &str, key: Option<&str>, body: &Value) -> Result<Told> {
        self.ask(&format!("POST {path}"), Some(token), key, body.to_string().as_bytes())
    }
}

/// One request, whoever listens there.
fn ask(to: SocketAddr, line: &str, token: Option<&str>, key: Option<&str>, body: &[u8]) -> Result<Told> {
    let token = token.map(|token| format!("authorization: Bearer {token}\r\n")).unwrap_or_default();
    let key = key.map(|key| format!("idempotency-key: {key}\r\n")).unwrap_or_default();
    let head = format!("{line} HTTP/1.1\r\nhost: api\r\n{token}{key}content-length: {}\r\n\r\n", body.len());
    let reply = raw::send(to, &[head.as_bytes(), body].concat())?;
    let status = reply.status().with_context(|| format!("{line}: no reply, {}", reply.text()))?;
    Ok(Told { status, body: reply.body() })
}

/// A new token with this right alone.
fn token(daemon: &Daemon, right: &str) -> Result<String> {
    Ok(daemon.call(&["token", "add", right, "--right", right])?.text("token")?.to_owned())
}

fn tokens(world: &World<'_>) -> Result<()> {
    let api = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
    let more = format!("[api]\nlisten = \"{api}\"\nplain = true\nrate_per_minute = 100000\n");
    let daemon = world.daemon_with("receiver", Options { more, ..Options::default() })?;
    let program = Program { api };
    let rights = ["read", "receive", "spend"];
    let tokens: Vec<String> = rights.iter().map(|right| token(&daemon, right)).collect::<Result<_>>()?;
    let of = |right: &str| rights.iter().position(|known| *known == right).map(|n| tokens[n].as_str());
    let document = program.ask("GET /v1/openapi.json", of("read"), None, b"")?.json()?;
    let paths = document["paths"].as_object().context("no paths")?;
    ensure!(paths.len() > 15, "only {} paths", paths.len());
    for (path, operation) in paths {
        let right = operation["post"].text("x-right")?;
        let own = of(right).with_context(|| format!("{path} needs {right}"))?;
        strangers(&program, path)?;
        for other in rights.iter().filter(|other| **other != right) {
            let told = program.call(path, of(other).context("a token")?, Some("walk"), &json!({}))?;
            // `receive` may be asked for with the right to spend, by who is the payer.
            let allowed = told.status == 400 && (right, *other) == ("receive", "spend");
            let lacks = told.status == 403 && told.json()?["code"] == "right";
            ensure!(lacks || allowed, "{path} {other}: {} {}", told.status, told.body);
        }
        for (number, body) in GARBAGE.iter().enumerate() {
            let key = format!("garbage-{number}-{}", path.replace('/', "-"));
            harmless(path, &program.ask(&format!("POST {path}"), Some(own), Some(&key), body)?)?;
        }
    }
    elsewhere(&daemon, &program, &tokens, paths.keys())?;
    watched(&program, &tokens)?;
    paid_once(world, &daemon, &program, &tokens[2])?;
    revoked(&daemon, &program, &tokens[0])
}

/// Without a token, and with a wrong one, there is nothing to read.
fn strangers(program: &Program, path: &str) -> Result<()> {
    let wrong = format!("payjoind_{}", "0".repeat(64));
    for token in [None, Some(""), Some(wrong.as_str())] {
        for line in [format!("POST {path}"), format!("GET {path}")] {
            let told = program.ask(&line, token, Some("a"), b"{\"expires\":60}")?;
            ensure!((told.status, told.body.as_str()) == (401, ""), "{line}: {} {}", told.status, told.body);
        }
    }
    Ok(())
}

/// An answer, or a refusal with a code: never a fault of ours.
fn harmless(path: &str, told: &Told) -> Result<()> {
    let answer = told.json().with_context(|| path.to_owned())?;
    let is_refusal =
        matches!(told.status, 400 | 404 | 409) && answer["code"].is_string() && answer["error"].is_string();
    ensure!(told.status == 200 || is_refusal, "{path}: {} {answer}", told.status);
    Ok(())
}

/// What the socket alone is asked for is not there, and the payers' listener answers none of it.
fn elsewhere<'a>(
    daemon: &Daemon,
    program: &Program,
    tokens: &[String],
    paths: impl Iterator<Item = &'a String>,
) -> Result<()> {
    for token in tokens {
        for path in
            ["/v1/token/add", "/v1/token/list", "/v1/token/revoke", "/v1/stop", "/v1/", "/v1/status/", "/"]
        {
            let told = program.call(path, token, Some("a"), &json!({}))?;
            ensure!(
                told.status == 404 && told.json()?["code"] == "path",
                "{path}: {} {}",
                told.status,
                told.body
            );
        }
    }
    let all = ["/healthz", "/readyz", "/metrics", "/v1/openapi.json"];
    for path in all.into_iter().chain(paths.map(String::as_str)) {
        for method in ["GET", "POST"] {
            let told = ask(daemon.plain, &format!("{method} {path}"), Some(&tokens[0]), Some("a"), b"{}")?;
            let payers = told.body.contains("There is no such invoice.");
            ensure!(
                told.status == 404 && payers,
                "payers read {method} {path}: {} {}",
                told.status,
                told.body
            );
        }
    }
    Ok(())
}

/// Health tells nothing but itself; numbers need the right to read.
fn watched(program: &Program, tokens: &[String]) -> Result<()> {
    for path in ["/healthz", "/readyz"] {
        let told = program.ask(&format!("GET {path}"), None, None, b"")?;
        ensure!((told.status, told.body.as_str()) == (200, ""), "{path}: {} {}", told.status, told.body);
    }
    let [read, receive, _] = tokens else { return Err(anyhow::anyhow!("three tokens")) };
    for (token, status) in [(None, 401), (Some(receive), 403), (Some(read), 200)] {
        let told = program.ask("GET /metrics", token.map(String::as_str), None, b"")?;
        ensure!(told.status == status, "/metrics: {} {}", told.status, told.body);
        let numbers = [
            "payjoind_ready 1\n",
            "payjoind_wallet_sat{kind=\"confirmed\"} 0\n",
            "payjoind_chain_lag_blocks 0\n",
        ];
        let missing = numbers.iter().find(|line| !told.body.contains(**line));
        ensure!(status != 200 || missing.is_none(), "no {missing:?} in {}", told.body);
    }
    Ok(())
}

/// A payment with a key is made once: sent twice, with other words, and after a crash.
fn paid_once(world: &World<'_>, daemon: &Daemon, program: &Program, spend: &str) -> Result<()> {
    world.give(daemon, &[400_000])?;
    let amount = Amount::from_sat(50_000);
    let address = world.payer().address("bech32")?;
    let uri = format!("bitcoin:{address}?amount=0.0005");
    // Each of these would pay once more.
    let body = json!({"uri": uri, "again": true, "fee_rate": FEE_RATE, "wait": 10});
    let pay = |key: &str, body: &Value| program.call("/v1/send", spend, Some(key), body);
    let without = program.call("/v1/send", spend, None, &body)?;
    ensure!(without.status == 400 && without.json()?["code"] == "key", "no key: {}", without.body);
    let first = pay("order-7", &body)?;
    ensure!(first.status == 200, "{} {}", first.status, first.body);
    let (txid, fee) = (first.json()?.txid("txid")?, first.json()?.sat("fee_sat")?);
    world.note_sent(Sent { by: daemon.name, uri, txid, amount, fee });
    let again = pay("order-7", &body)?;
    ensure!((again.status, &again.body) == (200, &first.body), "paid again: {}", again.body);
    let other = pay("order-7", &json!({"uri": "bitcoin:x", "wait": 1}))?;
    ensure!(other.status == 409 && other.json()?["code"] == "key_reused", "{} {}", other.status, other.body);
    daemon.kill();
    daemon.restart()?;
    let later = pay("order-7", &body)?;
    ensure!((later.status, &later.body) == (200, &first.body), "after a crash: {}", later.body);
    world.settle()
}

fn revoked(daemon: &Daemon, program: &Program, read: &str) -> Result<()> {
    ensure!(program.call("/v1/status", read, None, &json!({}))?.status == 200, "a token outlives a crash");
    let listed = daemon.call(&["token", "list"])?;
    ensure!(!listed.to_string().contains(read) && listed.list("tokens")?.len() == 3, "{listed}");
    daemon.call(&["token", "revoke", "read"])?;
    let told = program.call("/v1/status", read, None, &json!({}))?;
    ensure!((told.status, told.body.as_str()) == (401, ""), "a revoked token: {} {}", told.status, told.body);
    ensure!(!daemon.log()?.contains(&read[9..]), "the log has a token");
    let again = daemon.refusal(&["token", "revoke", "read"])?;
    ensure!(again.contains("no token read"), "{again}");
    Ok(())
}

/// A client that trusts our certificate alone.
fn client(tls: &Certificate) -> Result<Client> {
    let root = reqwest::Certificate::from_der(&fs::read(&tls.certificate)?)?;
    Ok(Client::builder().no_proxy().tls_built_in_root_certs(false).add_root_certificate(root).build()?)
}

fn health(world: &World<'_>) -> Result<()> {
    let port = ports::free()?;
    let Certificate { certificate, key, .. } = &world.tls;
    let files = format!("certificate = {certificate:?}\nkey = {key:?}");
    let more = format!("[log]\nformat = \"json\"\n[api]\nlisten = \"127.0.0.1:{port}\"\n{files}\n");
    let daemon = world.daemon_with("receiver", Options { more, ..Options::default() })?;
    let (client, url) = (client(&world.tls)?, format!("https://localhost:{port}"));
    let status =
        |path: &str| -> Result<u16> { Ok(client.get(format!("{url}{path}")).send()?.status().as_u16()) };
    ensure!(
        (status("/healthz")?, status("/readyz")?, status("/metrics")?) == (200, 200, 401),
        "while it runs"
    );
    let read = token(&daemon, "read")?;
    let told = client.post(format!("{url}/v1/status")).bearer_auth(&read).send()?.text()?;
    let told: Value = serde_json::from_str(&told)?;
    ensure!(told.text("api")? == format!("127.0.0.1:{port}"), "{told}");

    let numbers = client.get(format!("{url}/metrics")).bearer_auth(&read).send()?.text()?;
    ensure!(numbers.contains("payjoind_ready 1\n"), "{numbers}");

    let log = daemon.log()?;
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).with_context(|| format!("not JSON: {line}"))?;
        ensure!(line["level"].is_string() && line["timestamp"].is_string(), "{line}");
    }
    ensure!(log.contains("asked over the API") && !log.contains(&read[9..]), "the log: {log}");
    world.settle()
}
