//! How often a receiver asks bitcoind during one exchange, from bitcoind's own log.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Result;
use serde_json::{Value, json};

use crate::harness::Chain;

/// How long to listen to a receiver that has nothing to do.
const IDLE: Duration = Duration::from_secs(3);

/// What bitcoind was asked while somebody worked.
pub(crate) struct Asked {
    /// HTTP requests: a batch is one.
    pub(crate) round_trips: f64,
    /// Calls, by method.
    pub(crate) methods: BTreeMap<String, f64>,
}

/// Counts what bitcoind is asked while `work` runs, which does `exchanges`, and takes away what it is asked in the same
/// time when nobody pays.
pub(crate) fn per_exchange(
    chain: &Chain,
    log: &Path,
    exchanges: usize,
    work: impl FnOnce(),
) -> Result<Asked> {
    let idle = listen(chain, log, || thread::sleep(IDLE))?;
    let start = Instant::now();
    let busy = listen(chain, log, work)?;
    let share = start.elapsed().as_secs_f64() / IDLE.as_secs_f64();
    Ok(busy.less(&idle, share, exchanges as f64))
}

fn listen(chain: &Chain, log: &Path, work: impl FnOnce()) -> Result<Asked> {
    let kinds = json!(["http", "rpc"]);
    chain.call("logging", json!([kinds]))?;
    let mut file = File::open(log)?;
    file.seek(SeekFrom::End(0))?;
    work();
    let mut lines = String::new();
    file.read_to_string(&mut lines)?;
    chain.call("logging", json!([Value::Array(Vec::new()), kinds]))?;
    Ok(Asked::read(&lines))
}

impl Asked {
    fn read(log: &str) -> Self {
        let mut methods = BTreeMap::new();
        for line in log.lines() {
            let Some((_, rest)) = line.split_once("ThreadRPCServer method=") else { continue };
            let method = rest.split_whitespace().next().unwrap_or_default();
            *methods.entry(method.to_owned()).or_default() += 1.0;
        }
        let posts = log.lines().filter(|line| line.contains("Received a POST request")).count();
        Self { round_trips: posts as f64, methods }
    }

    /// The methods with their counts, as text.
    pub(crate) fn calls(&self) -> String {
        let asked = self.methods.iter().filter(|(_, count)| **count >= 0.05);
        asked.map(|(name, count)| format!("{name} {count:.1}")).collect::<Vec<_>>().join(", ")
    }

    fn less(&self, idle: &Self, share: f64, exchanges: f64) -> Self {
        let rest = |busy: f64, idle: f64| ((busy - idle * share) / exchanges).max(0.0);
        let method = |(name, busy): (&String, &f64)| {
            (name.clone(), rest(*busy, idle.methods.get(name).copied().unwrap_or_default()))
        };
        Self {
            round_trips: rest(self.round_trips, idle.round_trips),
            methods: self.methods.iter().map(method).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
2026-01-01T00:00:00Z [http] Received a POST request for / from 127.0.0.1:1
2026-01-01T00:00:00Z [rpc] ThreadRPCServer method=gettxout user=__cookie__
2026-01-01T00:00:00Z [rpc] ThreadRPCServer method=gettxout user=__cookie__
2026-01-01T00:00:00Z [http] Received a POST request for / from 127.0.0.1:1
2026-01-01T00:00:00Z [rpc] ThreadRPCServer method=testmempoolaccept user=__cookie__";

    #[test]
    fn a_batch_is_one_round_trip_of_many_calls() {
        let asked = Asked::read(LOG);
        assert_eq!(asked.round_trips, 2.0);
        assert_eq!(asked.methods["gettxout"], 2.0);
        assert_eq!(asked.methods["testmempoolaccept"], 1.0);
    }

    #[test]
    fn what_is_asked_without_payers_does_not_count() {
        let none = Asked::read(LOG).less(&Asked::read(LOG), 1.0, 4.0);
        assert_eq!((none.round_trips, none.methods["gettxout"]), (0.0, 0.0));
        let half = Asked::read(LOG).less(&Asked::read(LOG), 0.5, 1.0);
        assert_eq!((half.round_trips, half.methods["gettxout"]), (1.0, 1.0));
    }
}
