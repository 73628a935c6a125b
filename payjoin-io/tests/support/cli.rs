//! `payjoin-cli`, the reference implementation of both sides.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

use super::{Bitcoind, free_port, tool};

/// `payjoin-cli receive`, waiting for a payment.
pub(crate) struct Receiver {
    folder: TempDir,
    child: Child,
    /// The code to pay.
    pub(crate) uri: String,
    /// The certificate of a v1 receiver.
    pub(crate) certificate: Option<Vec<u8>>,
}

impl Receiver {
    /// BIP 77, with the directory's keys from a file.
    pub(crate) fn v2(bitcoind: &Bitcoind, relay: &str, directory: &str, keys: &[u8], sat: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("keys");
        std::fs::write(&path, keys).unwrap();
        let mut command = command(bitcoind, folder.path(), "receiver");
        command.args(["--bip77", "--ohttp-relays", relay]);
        command.args(["receive", &sat.to_string(), "--pj-directories", directory, "--ohttp-keys"]).arg(path);
        Self::run(command, folder, None)
    }

    /// BIP 78 over TLS with a certificate of its own.
    pub(crate) fn v1(bitcoind: &Bitcoind, sat: u64) -> Self {
        let folder = TempDir::new().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let (certificate, key) = (folder.path().join("cert.der"), folder.path().join("key.der"));
        std::fs::write(&certificate, made.cert.der()).unwrap();
        std::fs::write(&key, made.signing_key.serialize_der()).unwrap();
        let port = free_port();
        let mut command = command(bitcoind, folder.path(), "receiver");
        command.arg("--bip78").arg("--root-certificate").arg(certificate).arg("--certificate-key").arg(key);
        command.args(["receive", &sat.to_string(), "--port", &port.to_string()]);
        command.args(["--pj-endpoint", &format!("https://localhost:{port}")]);
        Self::run(command, folder, Some(made.cert.der().to_vec()))
    }

    fn run(mut command: Command, folder: TempDir, certificate: Option<Vec<u8>>) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut lines = lines.map(|line| line.unwrap());
        let uri = lines.find(|line| line.to_lowercase().starts_with("bitcoin:")).expect("a code is shown");
        // It stops when nobody reads.
        std::thread::spawn(move || lines.for_each(drop));
        Self { folder, child, uri, certificate }
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn command(bitcoind: &Bitcoind, folder: &Path, wallet: &str) -> Command {
    let mut command = Command::new(tool("PAYJOIN_CLI_EXE", "payjoin-cli"));
    command.current_dir(folder);
    command.args(["--rpchost", &bitcoind.url(wallet)]).arg("--cookie-file").arg(bitcoind.cookie());
    command
}

/// `payjoin-cli send` by the payer, to its end. Gives the payjoin's id.
pub(crate) fn send(bitcoind: &Bitcoind, relay: &str, uri: &str) -> String {
    let folder = TempDir::new().unwrap();
    let mut command = command(bitcoind, folder.path(), "payer");
    let output = command
        .args(["--bip77", "--ohttp-relays", relay, "send", uri, "--fee-rate", "5"])
        .stderr(Stdio::inherit())
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let (_, id) = text.split_once("TXID: ").expect("payjoin-cli sent a payjoin");
    id.trim().to_owned()
}
