//! What an authority says about the network.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result};

/// Without them a relay is of no use to an onion service.
const FLAGS: [&str; 5] = ["Fast", "Guard", "HSDir", "Stable", "V2Dir"];

/// The current consensus. HTTP by hand: the reply is text and the server is ours.
pub(super) fn fetch(directory: SocketAddr) -> Result<String> {
    let mut stream = TcpStream::connect_timeout(&directory, Duration::from_secs(1))?;
    stream.set_read_timeout(Some(Duration::from_secs(3)))?;
    stream.write_all(b"GET /tor/status-vote/current/consensus-microdesc HTTP/1.0\r\n\r\n")?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    let reply = String::from_utf8_lossy(&reply);
    let body = reply.strip_prefix("HTTP/1.0 200").context("no consensus yet")?;
    Ok(body.to_owned())
}

/// Relays with every flag that is needed.
pub(super) fn good_relays(consensus: &str) -> usize {
    let flags = consensus.lines().filter_map(|line| line.strip_prefix("s "));
    flags.filter(|flags| FLAGS.iter().all(|flag| flags.split(' ').any(|found| found == *flag))).count()
}

/// Seconds from `valid-after` to `fresh-until`. The first consensus of a network may have another.
pub(super) fn lifetime(consensus: &str) -> Option<u64> {
    let second = |name: &str| {
        let line = consensus.lines().find_map(|line| line.strip_prefix(name))?;
        let time = line.rsplit_once(' ')?.1;
        let mut parts = time.split(':').map(|part| part.parse::<u64>().ok());
        Some(parts.next()?? * 3600 + parts.next()?? * 60 + parts.next()??)
    };
    let day = 24 * 60 * 60;
    Some((second("fresh-until ")? + day - second("valid-after ")?) % day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_relays_with_every_flag_count() {
        let consensus =
            "r x\ns Authority Fast Guard HSDir Running Stable V2Dir Valid\ns Fast Guard HSDir V2Dir\n";
        assert_eq!(good_relays(consensus), 1);
    }

    #[test]
    fn the_lifetime_is_right_over_midnight() {
        let consensus = "valid-after 2026-11-22 23:59:50\nfresh-until 2026-11-23 00:00:10\n";
        assert_eq!(lifetime(consensus), Some(20));
        assert_eq!(lifetime("valid-after never\n"), None);
    }
}
