//! A name server for the exits. They ask nobody outside, and know names that nobody else knows.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::Result;
use tokio::net::UdpSocket;
use tokio::runtime::Runtime;

/// Names that end so are this machine; there are no others.
pub(crate) const HERE: &str = ".test";

const ID: usize = 2;
const HEADER: usize = 12;
/// For an IPv4 address, in the class of the Internet.
const QUESTION_A: [u8; 4] = [0, 1, 0, 1];
/// The name of the question again, type A, class IN, one minute, four bytes.
const ANSWER: [u8; 12] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4];
const NO_SUCH_NAME: u8 = 3;

pub(super) struct Names {
    address: SocketAddr,
    // Dropped with it: nothing is answered any more.
    _runtime: Runtime,
}

impl Names {
    pub(super) fn start() -> Result<Self> {
        let runtime = Runtime::new()?;
        let socket = runtime.block_on(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)))?;
        let address = socket.local_addr()?;
        runtime.spawn(async move {
            let mut buffer = [0; 1024];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                if let Some(reply) = reply(&buffer[..length]) {
                    // Who does not get it asks again.
                    let _ = socket.send_to(&reply, from).await;
                }
            }
        });
        Ok(Self { address, _runtime: runtime })
    }

    /// A line for `resolv.conf`, as libevent reads it.
    pub(super) fn line(&self) -> String {
        format!("nameserver {}\n", self.address)
    }
}

/// RFC 1035, section 4.1. Nothing for what is no question.
fn reply(question: &[u8]) -> Option<Vec<u8>> {
    let mut end = HEADER;
    let mut name = String::new();
    while let length @ 1.. = usize::from(*question.get(end)?) {
        let label = question.get(end + 1..end + 1 + length)?;
        name += &format!(".{}", String::from_utf8_lossy(label).to_ascii_lowercase());
        end += 1 + length;
    }
    let kind = question.get(end + 1..end + 5)?;
    let known = name.ends_with(HERE);
    let answer = known && *kind == QUESTION_A;
    let code = if known { 0 } else { NO_SUCH_NAME };
    let mut reply = question.get(..ID)?.to_vec();
    reply.extend([0x81, 0x80 | code, 0, 1, 0, u8::from(answer), 0, 0, 0, 0]);
    reply.extend(question.get(HEADER..end + 5)?);
    if answer {
        reply.extend(ANSWER);
        reply.extend(Ipv4Addr::LOCALHOST.octets());
    }
    Some(reply)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(name: &[u8], kind: u8) -> Option<Vec<u8>> {
        let header = [7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        reply(&[&header, name, &[0, 0, kind, 0, 1]].concat())
    }

    #[test]
    fn a_name_of_ours_is_this_machine_and_others_do_not_exist() {
        let found = ask(b"\x05relay\x04tEst", 1).unwrap();
        assert_eq!(found[..8], [7, 8, 0x81, 0x80, 0, 1, 0, 1]);
        assert_eq!(found[12..23], *b"\x05relay\x04tEst");
        assert!(found.ends_with(&[0, 4, 127, 0, 0, 1]));
        assert_eq!(ask(b"\x05relay\x04test", 28).unwrap()[2..8], [0x81, 0x80, 0, 1, 0, 0]);
        assert_eq!(ask(b"\x07example\x03org", 1).unwrap()[2..8], [0x81, 0x83, 0, 1, 0, 0]);
    }

    #[test]
    fn what_is_no_question_gets_no_reply() {
        for bytes in [&b""[..], &[0; 12], &[7, 8, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 63, 1]] {
            assert_eq!(reply(bytes), None, "{bytes:?}");
        }
    }
}
