//! Where a Lightning peer is.

use std::fmt;
use std::net::Ipv6Addr;
use std::str::FromStr;

use bitcoin::secp256k1::PublicKey;
use serde::{Deserialize, Serialize};

/// The TCP port of a peer that names none. BOLT 1.
const DEFAULT_PORT: u16 = 9735;

/// A peer's key and where it listens, written `node_id@host:port`. The host is an IPv4 address, an IPv6 address in
/// brackets, a DNS name or an onion address. A missing port is 9735.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct PeerAddress {
    node_id: PublicKey,
    host: String,
    port: u16,
}

/// Why a text is not a [`PeerAddress`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PeerAddressError {
    /// There is no `@` between key and host.
    #[error("a peer is written node_id@host:port, and this has no @")]
    Form,
    /// The key is not a compressed public key in hex.
    #[error("the node id is not a public key of 66 hex digits")]
    NodeId,
    /// The host is none of IPv4, `[IPv6]`, DNS name, onion address.
    #[error("the host is not an IPv4 address, [IPv6] address, DNS name or onion address")]
    Host,
    /// The port is not a number from 1 to 65535.
    #[error("the port is not a number from 1 to 65535")]
    Port,
}

impl PeerAddress {
    /// The peer's key.
    #[must_use]
    pub fn node_id(&self) -> PublicKey {
        self.node_id
    }

    /// The host, an IPv6 address without its brackets.
    #[must_use]
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl FromStr for PeerAddress {
    type Err = PeerAddressError;

    fn from_str(text: &str) -> Result<Self, PeerAddressError> {
        let (node_id, address) = text.split_once('@').ok_or(PeerAddressError::Form)?;
        // `PublicKey` also reads the uncompressed form, which no node goes by.
        let node_id = Some(node_id)
            .filter(|hex| hex.len() == 66)
            .and_then(|hex| hex.parse().ok())
            .ok_or(PeerAddressError::NodeId)?;
        let (host, port) = match address.strip_prefix('[') {
            Some(bracketed) => {
                let (host, rest) = bracketed.split_once(']').ok_or(PeerAddressError::Host)?;
                host.parse::<Ipv6Addr>().map_err(|_| PeerAddressError::Host)?;
                let port = match rest {
                    "" => None,
                    _ => Some(rest.strip_prefix(':').ok_or(PeerAddressError::Port)?),
                };
                (host, port)
            }
            None => {
                let (host, port) =
                    address.split_once(':').map_or((address, None), |(host, port)| (host, Some(port)));
                if !is_name(host) {
                    return Err(PeerAddressError::Host);
                }
                (host, port)
            }
        };
        let port = port.map_or(Ok(DEFAULT_PORT), parse_port)?;
        Ok(Self { node_id, host: host.to_owned(), port })
    }
}

/// A DNS name, an onion address or an IPv4 address. RFC 1035, section 2.3.
fn is_name(host: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.len() <= 253 && host.split('.').all(is_label)
}

fn parse_port(text: &str) -> Result<u16, PeerAddressError> {
    // `u16::from_str` takes a leading plus sign.
    let digits = !text.starts_with('+');
    text.parse().ok().filter(|port| digits && *port != 0).ok_or(PeerAddressError::Port)
}

impl fmt::Display for PeerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node_id, host, port } = self;
        if host.contains(':') {
            write!(f, "{node_id}@[{host}]:{port}")
        } else {
            write!(f, "{node_id}@{host}:{port}")
        }
    }
}

impl TryFrom<String> for PeerAddress {
    type Error = PeerAddressError;

    fn try_from(text: String) -> Result<Self, PeerAddressError> {
        text.parse()
    }
}

impl From<PeerAddress> for String {
    fn from(address: PeerAddress) -> Self {
        address.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798";

    #[test]
    fn an_address_reads_back_as_it_is_written() {
        let onion = format!("{}.onion", "a".repeat(56));
        for (written, host, port) in [
            ("10.0.0.1:9735", "10.0.0.1", 9735),
            ("[2001:db8::1]:19846", "2001:db8::1", 19846),
            ("node.example:1", "node.example", 1),
            (&format!("{onion}:65535"), onion.as_str(), 65535),
        ] {
            let address: PeerAddress = format!("{KEY}@{written}").parse().unwrap();
            assert_eq!((address.host(), address.port()), (host, port));
            assert_eq!(address.to_string(), format!("{KEY}@{written}"));
        }
    }

    #[test]
    fn a_missing_port_is_9735() {
        for host in ["10.0.0.1", "[::1]", "node.example"] {
            assert_eq!(format!("{KEY}@{host}").parse::<PeerAddress>().unwrap().port(), 9735);
        }
    }

    #[test]
    fn a_bad_address_is_refused_by_its_bad_part() {
        use PeerAddressError::{Form, Host, NodeId, Port};
        let uncompressed = format!("04{}", "a".repeat(128));
        let long = "a".repeat(254);
        for (text, error) in [
            ("", Form),
            (KEY, Form),
            ("@host:1", NodeId),
            (&format!("{}@host", &KEY[2..]), NodeId),
            (&format!("05{}@host", &KEY[2..]), NodeId),
            (&format!("{uncompressed}@host"), NodeId),
            (&format!("{KEY}@"), Host),
            (&format!("{KEY}@:9735"), Host),
            (&format!("{KEY}@ho st:9735"), Host),
            (&format!("{KEY}@host/path:9735"), Host),
            (&format!("{KEY}@a..b"), Host),
            (&format!("{KEY}@-a"), Host),
            (&format!("{KEY}@{long}"), Host),
            (&format!("{KEY}@me@host"), Host),
            (&format!("{KEY}@[::1"), Host),
            (&format!("{KEY}@[host]:1"), Host),
            (&format!("{KEY}@[::1]9735"), Port),
            (&format!("{KEY}@::1"), Host),
            (&format!("{KEY}@host:"), Port),
            (&format!("{KEY}@host:0"), Port),
            (&format!("{KEY}@host:+1"), Port),
            (&format!("{KEY}@host:65536"), Port),
            (&format!("{KEY}@host:1:2"), Port),
        ] {
            assert_eq!(text.parse::<PeerAddress>(), Err(error), "{text}");
        }
    }
}
