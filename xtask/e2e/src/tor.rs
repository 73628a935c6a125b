//! A private Tor network on loopback: three authorities, two exits and a client with a SOCKS port.
//!
//! All are Debian's `tor` in testing mode. Fewer nodes never make a working onion service; see `torrc.rs` for what each
//! setting is for.

use std::fs;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::slice;
use std::thread::sleep;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, bail};

use xtask_programs::process::Server;

mod consensus;
mod identity;
mod names;
mod provide;
mod shared;
mod torrc;

pub(crate) use names::HERE;
pub(crate) use provide::Programs;
pub(crate) use shared::Shared;

use identity::Identity;
use names::Names;
use torrc::{INTERVAL, Role};

/// Every port is fixed; a network has its own address for each node.
const OR_PORT: u16 = 5001;
const DIRECTORY_PORT: u16 = 7001;
const SOCKS_PORT: u16 = 9050;

const AUTHORITIES: [&str; 3] = ["a0", "a1", "a2"];
const RELAYS: [&str; 2] = ["r0", "r1"];
const CLIENT: &str = "c0";
const CLIENT_INDEX: usize = AUTHORITIES.len() + RELAYS.len();

/// The consensus needs three voting rounds at worst, the client a few seconds more.
const PATIENCE: Duration = Duration::from_secs(180);

/// Around the end of a time period, tor's look-ups fail for half a minute.
const TIME_PERIOD: Duration = Duration::from_secs(24 * INTERVAL);
/// What a developer may count on.
const MARGIN: Duration = Duration::from_secs(120);

/// A running network. Its processes are killed, each by its own id, when this value goes.
pub(crate) struct TorNetwork {
    /// The program of every node.
    tor: PathBuf,
    /// How nodes learn of the authorities.
    lines: Vec<String>,
    socks: SocketAddr,
    arti_settings: PathBuf,
    number: u8,
    nodes: Vec<Node>,
    names: Names,
}

/// One more client, stopped when this value goes.
pub(crate) struct Client {
    socks: SocketAddr,
    // Dropped with it: kills the process.
    _node: Node,
}

impl Client {
    /// Its SOCKS port.
    pub(crate) fn socks(&self) -> SocketAddr {
        self.socks
    }
}

struct Node {
    name: &'static str,
    dir: PathBuf,
    server: Server,
}

impl TorNetwork {
    /// Starts a network below `dir`, which is emptied, and waits until its client can be used: half a minute.
    pub(crate) fn start(programs: &Programs, dir: &Path) -> Result<Self> {
        match fs::remove_dir_all(dir) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        fs::create_dir_all(dir)?;
        let dir = dir.canonicalize()?;
        eprintln!("tor: authority keys");
        let identities = AUTHORITIES.map(|name| Identity::provide(programs, name));
        let identities = identities.into_iter().collect::<Result<Vec<_>>>()?;
        let network = free_network()?;
        let arti_settings = dir.join("arti.toml");
        let authorities: Vec<_> =
            (0..).zip(&identities).map(|(index, identity)| (address(network, index), identity)).collect();
        fs::write(&arti_settings, torrc::arti_settings(&authorities))?;
        let lines: Vec<_> =
            authorities.iter().map(|(ip, identity)| torrc::authority_line(*ip, identity)).collect();
        let socks = SocketAddr::from((address(network, CLIENT_INDEX), SOCKS_PORT));
        let mut this = Self {
            tor: programs.tor.clone(),
            lines,
            socks,
            arti_settings,
            number: network,
            nodes: Vec::new(),
            names: Names::start()?,
        };
        this.run(&dir, &identities)?;
        Ok(this)
    }

    /// The order matters: relays need a directory to report to, and the client gives up on half a network.
    fn run(&mut self, dir: &Path, identities: &[Identity]) -> Result<()> {
        let (network, start) = (self.number, Instant::now());
        eprintln!("tor: {} authorities", AUTHORITIES.len());
        for (index, identity) in identities.iter().enumerate() {
            let node = dir.join(identity.name);
            identity.install(&node)?;
            self.spawn(Role::Authority, identity.name, node, address(network, index))?;
        }
        let first = SocketAddr::from((address(network, 0), DIRECTORY_PORT));
        for index in 0..AUTHORITIES.len() {
            let directory = SocketAddr::from((address(network, index), DIRECTORY_PORT));
            until(&mut self.nodes, || {
                TcpStream::connect_timeout(&directory, Duration::from_secs(1)).is_ok()
            })?;
        }
        eprintln!("tor: {} relays", RELAYS.len());
        for (index, name) in RELAYS.into_iter().enumerate() {
            let ip = address(network, AUTHORITIES.len() + index);
            let node = dir.join(name);
            private_dir(&node)?;
            fs::write(node.join(torrc::NAMES), self.names.line())?;
            self.spawn(Role::Exit, name, node, ip)?;
        }
        self.wait_for_consensus(first)?;
        eprintln!("tor: client");
        let node = dir.join(CLIENT);
        private_dir(&node.join(torrc::KEYS))?;
        self.spawn(Role::Client, CLIENT, node.clone(), address(network, CLIENT_INDEX))?;
        until(&mut self.nodes, || is_ready(&node))?;
        eprintln!("tor: ready after {} s", start.elapsed().as_secs());
        Ok(())
    }

    fn wait_for_consensus(&mut self, directory: SocketAddr) -> Result<()> {
        let all = AUTHORITIES.len() + RELAYS.len();
        let mut shown = None;
        until(&mut self.nodes, || {
            let Ok(consensus) = consensus::fetch(directory) else { return false };
            let good = consensus::good_relays(&consensus);
            if shown.replace(good) != Some(good) {
                eprintln!("tor: consensus with {good} of {all} relays");
            }
            good == all && consensus::lifetime(&consensus) == Some(INTERVAL)
        })
    }

    fn spawn(&mut self, role: Role, name: &'static str, dir: PathBuf, ip: Ipv4Addr) -> Result<()> {
        self.nodes.push(self.node(role, name, dir, ip)?);
        Ok(())
    }

    fn node(&self, role: Role, name: &'static str, dir: PathBuf, ip: Ipv4Addr) -> Result<Node> {
        private_dir(&dir)?;
        let torrc = dir.join("torrc");
        fs::write(&torrc, torrc::torrc(role, name, &dir, ip, &self.lines))?;
        let log = fs::File::create(dir.join("stdout.log"))?;
        let mut command = Command::new(&self.tor);
        command.arg("-f").arg(&torrc).args(["--defaults-torrc", "/nonexistent", "--ignore-missing-torrc"]);
        command.stdout(log.try_clone()?).stderr(log);
        Ok(Node { name, dir, server: Server::start(&mut command)? })
    }

    /// Starts a client below `dir` that holds the key for a restricted onion service, and waits until it can be used:
    /// a few seconds. `service` is the address without `.onion`, `key` is `descriptor:x25519:…`.
    pub(crate) fn invited(&self, dir: &Path, service: &str, key: &str) -> Result<Client> {
        let keys = dir.join(torrc::KEYS);
        private_dir(&keys)?;
        fs::write(keys.join("payjoin.auth_private"), format!("{service}:{key}\n"))?;
        let free = |ip: &Ipv4Addr| TcpListener::bind((*ip, SOCKS_PORT)).is_ok();
        let mut others = (CLIENT_INDEX + 1..100).map(|index| address(self.number, index));
        let ip = others.find(free).context("no free loopback address for a Tor client")?;
        let mut node = self.node(Role::Client, "invited", dir.to_path_buf(), ip)?;
        until(slice::from_mut(&mut node), || is_ready(dir))?;
        Ok(Client { socks: SocketAddr::from((ip, SOCKS_PORT)), _node: node })
    }

    /// Fails when a node has ended, with the end of its log.
    pub(crate) fn check(&mut self) -> Result<()> {
        check(&mut self.nodes)
    }

    /// The client's SOCKS port.
    pub(crate) fn socks(&self) -> SocketAddr {
        self.socks
    }

    /// A file that makes arti use this network instead of the public one.
    pub(crate) fn arti_settings(&self) -> &Path {
        &self.arti_settings
    }

    /// Where authorities and relays take other nodes' and clients' connections.
    pub(crate) fn or_ports(&self) -> Vec<SocketAddr> {
        let relays = 0..AUTHORITIES.len() + RELAYS.len();
        relays.map(|index| SocketAddr::from((address(self.number, index), OR_PORT))).collect()
    }

    /// Sleeps until this much of the time period is left. Call it before each test.
    pub(crate) fn wait_for_time_period(&self, left: Duration) -> Result<()> {
        let now = || SystemTime::UNIX_EPOCH.elapsed();
        let this = time_left(now()?);
        if this < left {
            eprintln!("tor: the next time period begins in {} s, waiting for it", this.as_secs());
        }
        while time_left(now()?) < left {
            sleep(Duration::from_secs(1));
        }
        Ok(())
    }
}

/// Asks until `ready`, while every node lives.
fn until(nodes: &mut [Node], mut ready: impl FnMut() -> bool) -> Result<()> {
    let start = Instant::now();
    while !ready() {
        check(nodes)?;
        if start.elapsed() > PATIENCE {
            bail!("the private Tor network is not ready after {} s", PATIENCE.as_secs());
        }
        sleep(Duration::from_millis(200));
    }
    Ok(())
}

fn check(nodes: &mut [Node]) -> Result<()> {
    for node in nodes {
        if let Some(status) = node.server.ended()? {
            let log = fs::read_to_string(node.dir.join("stdout.log")).unwrap_or_default();
            let tail: Vec<_> = log.lines().rev().take(5).collect();
            bail!("the Tor node {} ended ({status}): {}", node.name, tail.join(" / "));
        }
    }
    Ok(())
}

/// Can this client be used?
fn is_ready(client: &Path) -> bool {
    fs::read_to_string(client.join(torrc::LOG)).is_ok_and(|log| log.contains("Bootstrapped 100%"))
}

/// How long the time period lasts that this moment is in. Periods begin 12 voting intervals late.
fn time_left(now: Duration) -> Duration {
    let into = (now.as_secs() - 12 * INTERVAL) % TIME_PERIOD.as_secs();
    TIME_PERIOD - Duration::from_secs(into)
}

/// A part of loopback that no other network uses.
fn free_network() -> Result<u8> {
    let free = |network: &u8| TcpListener::bind((address(*network, 0), OR_PORT)).is_ok();
    (1..=254).find(free).context("no free loopback address for a Tor network")
}

fn address(network: u8, index: usize) -> Ipv4Addr {
    // A few nodes: the sum stays far below 256.
    Ipv4Addr::new(127, 42, network, 1 + u8::try_from(index).unwrap_or(u8::MAX - 1))
}

fn private_dir(path: &Path) -> Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    Ok(fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?)
}

/// Starts a network for a developer, and keeps it until Ctrl-C.
pub(crate) fn run() -> Result<()> {
    let programs = Programs::provide()?;
    let mut network = TorNetwork::start(&programs, &provide::folder().join("network"))?;
    network.wait_for_time_period(MARGIN)?;
    println!("SOCKS port:   {}", network.socks());
    println!("network file: {}", network.arti_settings().display());
    println!("Ctrl-C stops it.");
    loop {
        network.check()?;
        sleep(Duration::from_secs(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_period_begins_twelve_intervals_late_and_is_counted_down() {
        let start = Duration::from_secs(12 * INTERVAL) + 1_000 * TIME_PERIOD;
        assert_eq!(time_left(start), TIME_PERIOD);
        assert_eq!(time_left(start + TIME_PERIOD - Duration::from_secs(1)), Duration::from_secs(1));
    }
}
