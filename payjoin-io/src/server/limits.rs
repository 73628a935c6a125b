//! How much a payer may ask for.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use crate::peer::{Peer, Subject};

/// What the server allows. The defaults are for a node on a small machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes in a body. A longer one is refused before it is read. Default 2,000,000: a dozen inputs with the whole
    /// transactions that they spend, as Bitcoin Core writes them, take 1,250,000.
    pub body_bytes: usize,
    /// Bytes in all bodies that are read or served. Beyond it the largest that is not whole is cut. Default 16,000,000.
    pub bodies_bytes: usize,
    /// Bytes in the request line and headers. Default and least: 16 KiB and 8 KiB.
    pub header_bytes: usize,
    /// Number of headers. Default 64.
    pub headers: usize,
    /// From accept to the end of the headers. Default 10 s.
    pub header_time: Duration,
    /// From the end of the headers to the end of the body. Default 30 s.
    pub body_time: Duration,
    /// From accept to the reply. What runs goes on; the payer gets the same proposal when it asks again. Default 60 s.
    pub exchange_time: Duration,
    /// Connections at once on each listener. Beyond it the oldest is cut that has sent no whole head. Default 256.
    pub connections: usize,
    /// Connections at once from one address of the clear net or one onion circuit. Default 32.
    pub connections_per_peer: usize,
    /// Exchanges at once. Default 16. For one invoice it is always 1.
    pub exchanges: u32,
    /// Requests from one address of the clear net or one onion circuit; `None` for no limit. Default 5 a minute, 3 at
    /// once.
    pub per_peer: Option<Rate>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body_bytes: 2_000_000,
            bodies_bytes: 16_000_000,
            header_bytes: 16 * 1024,
            headers: 64,
            header_time: Duration::from_secs(10),
            body_time: Duration::from_secs(30),
            exchange_time: Duration::from_secs(60),
            connections: 256,
            connections_per_peer: 32,
            exchanges: 16,
            per_peer: Some(Rate { per_minute: 5, burst: 3 }),
        }
    }
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Tokens that come back in a minute.
    pub per_minute: u32,
    /// Tokens it holds.
    pub burst: u32,
}

/// A bucket for each one who asked lately.
#[derive(Debug)]
pub struct Buckets<K>(HashMap<K, (f64, Instant)>);

impl<K> Default for Buckets<K> {
    fn default() -> Self {
        Self(HashMap::new())
    }
}

/// Full buckets are swept out beyond this many.
const SWEEP: usize = 4096;

impl Buckets<Subject> {
    /// Takes a token from the peer's bucket, if there is one left. Of nobody in particular nothing is counted.
    pub(crate) fn take_of(&mut self, rate: Rate, peer: Peer, now: Instant) -> bool {
        Subject::of(peer).is_none_or(|subject| self.take(rate, subject, now))
    }
}

impl<K: Eq + Hash> Buckets<K> {
    /// Takes a token from this bucket, if there is one left.
    pub fn take(&mut self, rate: Rate, subject: K, now: Instant) -> bool {
        let burst = f64::from(rate.burst);
        let filled = |tokens: f64, since: Instant| {
            let back = now.duration_since(since).as_secs_f64() * f64::from(rate.per_minute) / 60.0;
            burst.min(tokens + back)
        };
        if self.0.len() >= SWEEP {
            self.0.retain(|_, (tokens, since)| filled(*tokens, *since) < burst);
        }
        let (tokens, since) = self.0.entry(subject).or_insert((burst, now));
        *tokens = filled(*tokens, *since);
        *since = now;
        let allowed = *tokens >= 1.0;
        if allowed {
            *tokens -= 1.0;
        }
        allowed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { per_minute: 5, burst: 3 };

    fn peer(text: &str) -> Peer {
        Peer::Address(text.parse().unwrap())
    }

    #[test]
    fn an_address_gets_its_burst_and_then_its_rate() {
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        let payer = peer("192.0.2.1");
        let mut at = |seconds| buckets.take_of(RATE, payer, start + Duration::from_secs(seconds));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(11), at(12), at(13)], [false, true, false]);
    }

    #[test]
    fn neighbours_in_one_ipv6_network_share_a_bucket() {
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        for _ in 0..3 {
            assert!(buckets.take_of(RATE, peer("2001:db8::1"), now));
        }
        assert!(!buckets.take_of(RATE, peer("2001:db8::2"), now));
        assert!(buckets.take_of(RATE, peer("2001:db8:0:1::1"), now));
    }

    #[test]
    fn each_onion_circuit_has_a_bucket_and_strangers_have_none() {
        let (mut buckets, now) = (Buckets::default(), Instant::now());
        for _ in 0..3 {
            assert!(buckets.take_of(RATE, Peer::Circuit(1), now));
            assert!(buckets.take_of(RATE, Peer::Unknown, now));
        }
        assert!(!buckets.take_of(RATE, Peer::Circuit(1), now));
        assert!(buckets.take_of(RATE, Peer::Circuit(2), now));
        assert!(buckets.take_of(RATE, Peer::Unknown, now));
    }
}
