//! A network namespace for one daemon. A few addresses answer in it as they do outside; whatever else is tried goes
//! nowhere, and everything that is tried is seen.
//!
//! Inside, every address of the world is a local one, so that no packet is lost before it is seen. A keeper, which is
//! this program again, watches all packets there and carries connections to the open addresses through Unix sockets:
//! these are found by path, so they cross namespaces. User namespaces make it work without root.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::net::{AddressFamily, RecvFlags, SocketType, eth};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::runtime::Runtime;

use super::wait;
use xtask_programs::process::{self, Server};

const HELP: &str = "\
this machine lets us make no network namespace. Needed are `unshare`, `nsenter` and `ip`, and one of: user namespaces \
for everybody (sysctl kernel.unprivileged_userns_clone=1, kernel.apparmor_restrict_unprivileged_userns=0), or root";

/// Written by the keeper when everything is in place.
const READY: &str = "ready";
/// What was tried, one line each, in the order of the first try.
const TRIED: &str = "tried";

/// Names are asked of a server only, so that every look-up is a packet. Nobody has this address.
const RESOLVER: &str = "nameserver 192.0.2.53\noptions timeout:1 attempts:1\n";
const SWITCH: &str = "passwd: files\ngroup: files\nhosts: dns\n";

/// A namespace that lives as long as this value or a process in it.
pub(crate) struct Cell {
    keeper: Server,
    dir: PathBuf,
    // Dropped with it: no connection is carried any more.
    _carriers: Runtime,
}

impl Cell {
    /// Makes one in which only these addresses answer. Keeps its files below `dir`.
    pub(crate) fn new(dir: &Path, open: &[SocketAddr]) -> Result<Self> {
        let dir = dir.join("cell");
        fs::create_dir_all(&dir)?;
        let carriers = Runtime::new()?;
        let inside = carriers.enter();
        for address in open.iter().copied() {
            let door = UnixListener::bind(door(&dir, address))?;
            carriers.spawn(async move {
                while let Ok((stream, _)) = door.accept().await {
                    tokio::spawn(carry(stream, TcpStream::connect(address)));
                }
            });
        }
        drop(inside);
        let log = File::create(dir.with_extension("log"))?;
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--net", "--mount"]).arg(std::env::current_exe()?);
        command.arg("cell").arg(&dir).args(open.iter().map(SocketAddr::to_string));
        let mut keeper = Server::start(command.stdout(log.try_clone()?).stderr(log)).context(HELP)?;
        wait::until("the network namespace is ready", Duration::from_secs(10), || {
            if keeper.ended()?.is_some() {
                bail!("{}: {HELP}", fs::read_to_string(dir.with_extension("log"))?.trim());
            }
            Ok(dir.join(READY).exists().then_some(()))
        })?;
        Ok(Self { keeper, dir, _carriers: carriers })
    }

    /// Words that start a program inside when they stand before its own.
    pub(crate) fn prefix(&self) -> Vec<String> {
        let target = format!("--target={}", self.keeper.id());
        let words = ["nsenter", &target, "--user", "--preserve-credentials", "--net", "--mount"];
        words.map(str::to_owned).to_vec()
    }

    /// What was tried so far, each once, in order: see [`attempt`].
    pub(crate) fn tried(&self) -> Result<Vec<String>> {
        Ok(fs::read_to_string(self.dir.join(TRIED))?.lines().map(str::to_owned).collect())
    }
}

/// The Unix socket that leads to an address.
fn door(dir: &Path, address: SocketAddr) -> PathBuf {
    dir.join(address.to_string())
}

/// Joins a stream to one that is yet to be opened, until both sides have ended or one fails.
async fn carry<A, B>(mut here: A, there: impl Future<Output = std::io::Result<B>>)
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    if let Ok(mut there) = there.await {
        // Either side sees the end of the other; nobody else wants to know.
        let _ = copy_bidirectional(&mut here, &mut there).await;
    }
}

/// The keeper's work, inside the namespace, until it is killed.
pub(crate) fn keep(dir: &Path, open: &[SocketAddr]) -> Result<()> {
    let ip = |line: &str| process::run(Command::new("ip").args(line.split(' ')));
    ip("link set lo up")?;
    ip("route add local default dev lo")?;
    if fs::exists("/proc/net/if_inet6")? {
        ip("-6 route add local default dev lo")?;
    }
    for (name, text) in [("resolv.conf", RESOLVER), ("nsswitch.conf", SWITCH)] {
        let ours = dir.join(name);
        fs::write(&ours, text)?;
        let theirs = fs::canonicalize(Path::new("/etc").join(name))?;
        process::run(Command::new("mount").arg("--bind").arg(ours).arg(theirs))?;
    }
    let packets = rustix::net::socket(AddressFamily::PACKET, SocketType::DGRAM, Some(eth::ALL))?;
    let mut tried = File::create(dir.join(TRIED))?;
    let carriers = Runtime::new()?;
    for address in open.iter().copied() {
        let (port, door) = (carriers.block_on(TcpListener::bind(address))?, door(dir, address));
        carriers.spawn(async move {
            while let Ok((stream, _)) = port.accept().await {
                tokio::spawn(carry(stream, UnixStream::connect(door.clone())));
            }
        });
    }
    fs::write(dir.join(READY), "")?;
    let mut told = BTreeSet::new();
    let mut packet = vec![0; 1 << 16];
    loop {
        let (length, _) = rustix::net::recv(&packets, &mut packet[..], RecvFlags::empty())?;
        if let Some(line) = attempt(&packet[..length]).filter(|line| !told.contains(line)) {
            writeln!(tried, "{line}")?;
            told.insert(line);
        }
    }
}

/// What an IP packet tries: `tcp ADDRESS` to connect, `dns NAME` to look up a name, `udp ADDRESS`, or
/// `protocol NUMBER ADDRESS`. Nothing for packets that belong to what was tried before.
fn attempt(packet: &[u8]) -> Option<String> {
    const SYN: u8 = 2;
    const ACK: u8 = 16;
    let (protocol, to, payload): (_, IpAddr, _) = if packet.first()? >> 4 == 4 {
        let to: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
        (*packet.get(9)?, to.into(), packet.get(usize::from(packet[0] & 15) * 4..)?)
    } else {
        let to: [u8; 16] = packet.get(24..40)?.try_into().ok()?;
        (*packet.get(6)?, Ipv6Addr::from(to).into(), packet.get(40..)?)
    };
    let port = || Some(u16::from_be_bytes(payload.get(2..4)?.try_into().ok()?));
    match protocol {
        6 if payload.get(13)? & (SYN | ACK) != SYN => None,
        6 => Some(format!("tcp {}", SocketAddr::new(to, port()?))),
        17 if port()? == 53 => Some(format!("dns {}", question(payload.get(8 + 12..)?))),
        17 => Some(format!("udp {}", SocketAddr::new(to, port()?))),
        // "Unreachable": the kernel's own answers to the above.
        1 if *payload.first()? == 3 => None,
        58 if *payload.first()? == 1 => None,
        other => Some(format!("protocol {other} {to}")),
    }
}

/// The name in a DNS question.
fn question(mut labels: &[u8]) -> String {
    let mut name = Vec::new();
    while let Some((length, rest)) = labels.split_first().filter(|(length, _)| **length > 0) {
        let Some((label, rest)) = rest.split_at_checked(usize::from(*length)) else { break };
        name.push(String::from_utf8_lossy(label));
        labels = rest;
    }
    name.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TO: [u8; 4] = [192, 0, 2, 7];

    /// An IPv4 packet with this payload.
    fn v4(protocol: u8, payload: &[u8]) -> Option<String> {
        let header = [&[0x45, 0, 0, 0, 0, 0, 0, 0, 64, protocol, 0, 0, 10, 0, 0, 1], &TO[..]].concat();
        attempt(&[&header, payload].concat())
    }

    /// A TCP header to port 443 with these flags.
    fn tcp(flags: u8) -> [u8; 14] {
        [0x99, 0x99, 1, 187, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, flags]
    }

    #[test]
    fn only_the_first_packet_of_a_connection_is_an_attempt() {
        assert_eq!(v4(6, &tcp(2)).as_deref(), Some("tcp 192.0.2.7:443"));
        for later in [16, 18, 17, 4, 24] {
            assert_eq!(v4(6, &tcp(later)), None);
        }
        let mut v6 = vec![0x60, 0, 0, 0, 0, 20, 6, 64];
        v6.extend([[0; 16], Ipv6Addr::LOCALHOST.octets()].concat());
        v6.extend(tcp(2));
        assert_eq!(attempt(&v6).as_deref(), Some("tcp [::1]:443"));
    }

    #[test]
    fn a_question_for_a_name_shows_the_name() {
        let dns = [&[0x99, 0x99, 0, 53, 0, 0, 0, 0], &[0; 12][..], b"\x01a\x04test\0\0\x01\0\x01"].concat();
        assert_eq!(v4(17, &dns).as_deref(), Some("dns a.test"));
    }

    #[test]
    fn everything_else_is_told_but_the_kernel_s_refusals() {
        assert_eq!(v4(17, &[0x99, 0x99, 1, 187, 0, 0, 0, 0]).as_deref(), Some("udp 192.0.2.7:443"));
        assert_eq!(v4(1, &[8, 0]).as_deref(), Some("protocol 1 192.0.2.7"));
        assert_eq!(v4(132, &[]).as_deref(), Some("protocol 132 192.0.2.7"));
        assert_eq!(v4(1, &[3, 3]), None);
        assert_eq!(attempt(&[]), None);
    }
}
