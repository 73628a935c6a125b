//! Those who pay: payjoin-cli, and a sender of our own for what payjoin-cli cannot express.

use std::fs::{self, File};
use std::io::Read;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use bitcoin::{Amount, FeeRate, Psbt, Transaction, Txid};
use payjoin::Uri;
use payjoin::send::v1::{Sender, SenderBuilder, V1Context};
use reqwest::Proxy;
use reqwest::blocking::Client;

use super::chain::{Chain, Wallet};
use super::tls::Certificate;
use super::wait;
use xtask_programs::process::{self, Server};

/// What payers pay, in sat/vB, unless a case says otherwise.
pub(crate) const FEE_RATE: u64 = 5;

/// payjoin-cli, with one of bitcoind's wallets.
pub(crate) struct PayjoinCli<'a> {
    pub(crate) program: &'a Path,
    pub(crate) dir: &'a Path,
    pub(crate) chain: &'a Chain,
    pub(crate) tls: &'a Certificate,
    pub(crate) release: Release,
}

/// Which payjoin-cli.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Release {
    /// 1.0.
    Current,
    /// 0.2: it takes no certificate as an argument.
    Old,
}

impl PayjoinCli<'_> {
    /// Pays a BIP 21 code by BIP 78 and returns the transaction that it broadcast.
    pub(crate) fn pay(&self, wallet: Wallet<'_>, uri: &str) -> Result<Txid> {
        let mut command = self.command("--bip78", wallet)?;
        match self.release {
            Release::Current => command.arg("--root-certificate").arg(&self.tls.certificate),
            Release::Old => command.env("SSL_CERT_FILE", &self.tls.pem),
        };
        txid(&process::output(command.args(["send", uri, "--fee-rate", &FEE_RATE.to_string()]))?)
    }

    /// Begins to pay a code by BIP 77 through this relay: it waits for the receiver as long as it takes.
    pub(crate) fn begin(&self, wallet: Wallet<'_>, uri: &str, relay: &str) -> Result<Sending> {
        let mut command = self.command("--bip77", wallet)?;
        command.args(["--ohttp-relays", relay, "send", uri, "--fee-rate", &FEE_RATE.to_string()]);
        self.spawn(command)
    }

    /// Takes up every payment that is not over.
    pub(crate) fn resume(&self, wallet: Wallet<'_>, relay: &str) -> Result<Sending> {
        let mut command = self.command("--bip77", wallet)?;
        command.args(["--ohttp-relays", relay, "resume"]);
        self.spawn(command)
    }

    fn spawn(&self, mut command: Command) -> Result<Sending> {
        let log = File::options().create(true).append(true).open(self.dir.join("payjoin-cli.log"))?;
        Ok(Sending(Server::start(command.stdout(Stdio::piped()).stderr(log))?))
    }

    fn command(&self, version: &str, wallet: Wallet<'_>) -> Result<Command> {
        // It reads config.toml from its folder and keeps its database there.
        let folder = self.dir.join(match self.release {
            Release::Current => "payjoin-cli",
            Release::Old => "payjoin-cli-old",
        });
        fs::create_dir_all(&folder)?;
        let mut command = Command::new(self.program);
        command.current_dir(&folder).env("NO_PROXY", "localhost,127.0.0.1");
        command.args([version, "--rpchost", &wallet.url(), "--cookie-file"]).arg(self.chain.cookie());
        Ok(command)
    }
}

/// A running payjoin-cli; killed when dropped.
pub(crate) struct Sending(Server);

impl Sending {
    /// Waits for the transaction that it broadcast.
    pub(crate) fn txid(self) -> Result<Txid> {
        txid(&self.printed()?)
    }

    /// Waits until it ends without a payment, and returns what it printed.
    pub(crate) fn gave_up(self) -> Result<String> {
        let printed = self.printed()?;
        ensure!(txid(&printed).is_err(), "payjoin-cli paid: {printed}");
        Ok(printed)
    }

    fn printed(mut self) -> Result<String> {
        let mut stdout = self.0.stdout().context("no pipe to payjoin-cli")?;
        wait::until("payjoin-cli ends", Duration::from_secs(30), || self.0.ended())?;
        let mut printed = String::new();
        stdout.read_to_string(&mut printed)?;
        Ok(printed)
    }
}

fn txid(printed: &str) -> Result<Txid> {
    let (_, rest) =
        printed.split_once("TXID: ").with_context(|| format!("payjoin-cli sent nothing: {printed}"))?;
    rest.split_whitespace().next().context("no transaction id")?.parse().map_err(Into::into)
}

/// A payment that waits for its proposal.
pub(crate) struct Payment<'a> {
    wallet: Wallet<'a>,
    original: Psbt,
    sender: Sender,
}

/// What the payer wants of the receiver.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Substitution {
    Allowed,
    Forbidden,
}

impl<'a> Payment<'a> {
    /// Builds and signs the Original for a BIP 21 code that names an amount.
    pub(crate) fn new(wallet: Wallet<'a>, uri: &str, substitution: Substitution) -> Result<Self> {
        let rate = FeeRate::from_sat_per_vb(FEE_RATE).context("the fee rate overflows")?;
        Self::at(wallet, uri, substitution, rate)
    }

    /// The same at another fee rate.
    pub(crate) fn at(
        wallet: Wallet<'a>,
        uri: &str,
        substitution: Substitution,
        rate: FeeRate,
    ) -> Result<Self> {
        let parsed = Uri::try_from(uri).map_err(|error| anyhow!("not a BIP 21 code: {error}"))?;
        let amount = parsed.amount().context("the BIP 21 code names no amount")?;
        let address = parsed.assume_checked().address().to_string();
        let original = wallet.payment_at(&address, amount, rate.to_sat_per_kwu() as f64 / 250.0)?;
        Self::build(wallet, uri, original, substitution, rate)
    }

    /// With an Original of one's own.
    pub(crate) fn of(wallet: Wallet<'a>, uri: &str, original: Psbt) -> Result<Self> {
        let rate = FeeRate::from_sat_per_vb(FEE_RATE).context("the fee rate overflows")?;
        Self::build(wallet, uri, original, Substitution::Allowed, rate)
    }

    fn build(
        wallet: Wallet<'a>,
        uri: &str,
        original: Psbt,
        substitution: Substitution,
        rate: FeeRate,
    ) -> Result<Self> {
        let uri = Uri::try_from(uri).map_err(|error| anyhow!("not a BIP 21 code: {error}"))?.assume_checked();
        let uri = uri.check_pj_supported().map_err(|_| anyhow!("the BIP 21 code has no payjoin endpoint"))?;
        let mut builder = SenderBuilder::new(original.clone(), uri);
        if substitution == Substitution::Forbidden {
            builder = builder.always_disable_output_substitution();
        }
        Ok(Self { wallet, original, sender: builder.build_recommended(rate)? })
    }

    /// The whole request, for a socket.
    pub(crate) fn request(&self) -> Result<Vec<u8>> {
        let (request, _) = self.sender.create_v1_post_request();
        let (kind, length, target) = (request.content_type, request.body.len(), self.target()?);
        let head = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
        );
        Ok([head.into_bytes(), request.body].concat())
    }

    /// Path and query of the request.
    pub(crate) fn target(&self) -> Result<String> {
        let (request, _) = self.sender.create_v1_post_request();
        let target = request.url.splitn(4, '/').nth(3).context("an endpoint without a path")?;
        Ok(format!("/{target}"))
    }

    /// The Original as it is posted.
    pub(crate) fn body(&self) -> Vec<u8> {
        self.sender.create_v1_post_request().0.body
    }

    /// The plain payment as a signed PSBT.
    pub(crate) fn psbt(&self) -> &Psbt {
        &self.original
    }

    /// The plain payment, ready to broadcast.
    pub(crate) fn original(&self) -> Result<Transaction> {
        Ok(self.original.clone().extract_tx()?)
    }

    /// Posts the Original, checks the proposal as the reference sender does, and signs it. Broadcasts nothing.
    pub(crate) fn exchange(&self, tls: &Certificate) -> Result<Transaction> {
        self.exchange_by(&client(tls)?)
    }

    /// The same by a client of one's own.
    pub(crate) fn exchange_by(&self, client: &Client) -> Result<Transaction> {
        let (request, _) = self.sender.create_v1_post_request();
        let reply = client
            .post(request.url)
            .header("Content-Type", request.content_type)
            .body(request.body)
            .send()?;
        let status = reply.status();
        let reply = reply.text()?;
        ensure!(status.is_success(), "the receiver answered {status}: {reply}");
        self.signed(&reply)
    }

    /// Checks a proposal as the reference sender does, and signs it.
    pub(crate) fn signed(&self, proposal: &str) -> Result<Transaction> {
        let (_, context) = self.sender.create_v1_post_request();
        Ok(self.wallet.sign(&check(context, proposal)?)?.extract_tx()?)
    }
}

fn check(context: V1Context, reply: &str) -> Result<Psbt> {
    context.process_response(reply.as_bytes()).map_err(|error| anyhow!("bad proposal: {error}"))
}

fn client(tls: &Certificate) -> Result<Client> {
    let root = reqwest::Certificate::from_der(&fs::read(&tls.certificate)?)?;
    Ok(Client::builder().no_proxy().http1_only().add_root_certificate(root).build()?)
}

/// A client behind a Tor client's SOCKS port. Each user has circuits of its own.
pub(crate) fn behind_tor(socks: SocketAddr, user: &str, timeout: Duration) -> Result<Client> {
    let proxy = Proxy::all(format!("socks5h://{user}:none@{socks}"))?;
    Ok(Client::builder().proxy(proxy).http1_only().timeout(timeout).build()?)
}

/// The amount that a BIP 21 code asks for.
pub(crate) fn amount_of(uri: &str) -> Result<Amount> {
    let uri = Uri::try_from(uri).map_err(|error| anyhow!("not a BIP 21 code: {error}"))?;
    uri.amount().context("the BIP 21 code names no amount")
}
