//! HTTP by hand: any bytes to a socket, and whatever comes back.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// What a server sent before it closed.
pub(crate) struct Reply(Vec<u8>);

/// Sends bytes, closes our side, and reads until the server closes. A server that hangs up early is no error: what
/// it sent until then is the reply.
pub(crate) fn send(address: SocketAddr, bytes: &[u8]) -> Result<Reply> {
    let mut stream = connect(address)?;
    let sent = stream.write_all(bytes).and_then(|()| stream.shutdown(Shutdown::Write));
    Ok(read(stream, sent.is_ok()))
}

/// Sends bytes and keeps our side open, until the answer is dropped.
pub(crate) fn begin(address: SocketAddr, bytes: &[u8]) -> Result<TcpStream> {
    let mut stream = connect(address)?;
    stream.write_all(bytes)?;
    Ok(stream)
}

/// Sends bytes, keeps our side open, and reads until the server closes.
pub(crate) fn send_and_stay(address: SocketAddr, bytes: &[u8]) -> Result<Reply> {
    let mut stream = connect(address)?;
    let sent = stream.write_all(bytes);
    Ok(read(stream, sent.is_ok()))
}

/// What a SOCKS server says of a stream that it opened. RFC 1928, section 6.
const OPENED: u8 = 0;
/// What tor says where the directories that it asked know no such onion service (yet). tor(1), "ExtendedErrors".
pub(crate) const NO_DESCRIPTOR: u8 = 0xf0;
/// What tor says where only chosen clients find an onion service and it is none of them. The same source.
pub(crate) const NOT_INVITED: u8 = 0xf4;

/// A stream to a host behind a Tor client's SOCKS port. Streams of one user share a circuit. Reads wait for half a
/// second.
pub(crate) fn behind_tor(socks: SocketAddr, user: &str, host: &str, port: u16) -> Result<TcpStream> {
    let (stream, code) = ask_tor(socks, user, host, port)?;
    ensure!(code == OPENED, "SOCKS: {host}:{port} got {code:#x}");
    stream.set_read_timeout(Some(Duration::from_millis(500)))?;
    Ok(stream)
}

/// The same with what the Tor client says of it.
pub(crate) fn ask_tor(socks: SocketAddr, user: &str, host: &str, port: u16) -> Result<(TcpStream, u8)> {
    let mut stream = connect(socks)?;
    stream.set_read_timeout(Some(Duration::from_secs(60)))?;
    let sized =
        |text: &str| -> Result<Vec<u8>> { Ok([&[u8::try_from(text.len())?], text.as_bytes()].concat()) };
    // RFC 1928 and RFC 1929: by user and password; connect to a name. Tor's reply names no address.
    expect(&mut stream, &[5, 1, 2], [5, 2])?;
    expect(&mut stream, &[vec![1], sized(user)?, sized("none")?].concat(), [1, 0])?;
    let target = [vec![5, 1, 0, 3], sized(host)?, port.to_be_bytes().to_vec()].concat();
    let [5, code, 0, 1, 0, 0, 0, 0, 0, 0] = call(&mut stream, &target)? else {
        bail!("SOCKS: no reply of tor's to {host}:{port}")
    };
    Ok((stream, code))
}

fn expect<const N: usize>(stream: &mut TcpStream, request: &[u8], reply: [u8; N]) -> Result<()> {
    let told = call(stream, request)?;
    ensure!(told == reply, "SOCKS: {request:?} got {told:?}");
    Ok(())
}

fn call<const N: usize>(stream: &mut TcpStream, request: &[u8]) -> Result<[u8; N]> {
    let mut reply = [0; N];
    stream.write_all(request)?;
    stream.read_exact(&mut reply)?;
    Ok(reply)
}

fn connect(address: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5)).context("nobody listens")?;
    stream.set_read_timeout(Some(Duration::from_secs(15)))?;
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    Ok(stream)
}

fn read(mut stream: TcpStream, all_sent: bool) -> Reply {
    let mut reply = Vec::new();
    // After a refusal in the middle of our bytes the system may reset the connection: keep what came.
    let ended = stream.read_to_end(&mut reply);
    if ended.is_err() && all_sent && reply.is_empty() {
        reply.extend_from_slice(b"(silence)");
    }
    Reply(reply)
}

impl Reply {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// The status of the first response; `None` when there was no response at all.
    pub(crate) fn status(&self) -> Option<u16> {
        let text = self.text();
        text.strip_prefix("HTTP/1.")?.get(2..5)?.parse().ok()
    }

    /// How many responses came.
    pub(crate) fn responses(&self) -> usize {
        self.text().matches("HTTP/1.").count()
    }

    pub(crate) fn has_header(&self, line: &str) -> bool {
        let text = self.text().to_ascii_lowercase();
        let head = text.split("\r\n\r\n").next().unwrap_or_default();
        head.lines().any(|found| found == line.to_ascii_lowercase())
    }

    pub(crate) fn body(&self) -> String {
        self.text().split_once("\r\n\r\n").map(|(_, body)| body.to_owned()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_taken_apart() {
        let reply = Reply(b"HTTP/1.1 413 Too Large\r\nA: *\r\n\r\n{}".to_vec());
        assert_eq!((reply.status(), reply.responses(), reply.body().as_str()), (Some(413), 1, "{}"));
        assert!(reply.has_header("a: *"));
        assert_eq!(Reply(Vec::new()).status(), None);
        assert_eq!(Reply(b"\xff\xfe".to_vec()).status(), None);
    }
}
