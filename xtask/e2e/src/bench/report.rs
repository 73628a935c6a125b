//! What was measured, as a table and as JSON.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;
use std::{fs, thread};

use serde_json::{Value, json};

use super::receivers::Kind;
use super::round_trips::Asked;

/// Requests per second, ours by payjoin-cli's: at least.
const OVER_PAYJOIN_CLI: f64 = 10.0;

/// Requests per second, the floor's by ours: at most.
const UNDER_FLOOR: f64 = 1.5;

/// One receiver with so many payers.
pub(crate) struct Round {
    payers: usize,
    receiver: Kind,
    pub(crate) latencies: Vec<Duration>,
    pub(crate) elapsed: Duration,
    pub(crate) failures: usize,
}

impl Round {
    pub(crate) fn new(payers: usize, receiver: Kind) -> Self {
        Self { payers, receiver, latencies: Vec::new(), elapsed: Duration::ZERO, failures: 0 }
    }

    /// Proposals per second.
    fn rate(&self) -> f64 {
        (self.latencies.len() - self.failures) as f64 / self.elapsed.as_secs_f64()
    }

    fn percentile(&self, percent: usize) -> f64 {
        percentile(&self.latencies, percent)
    }
}

/// The latency, in milliseconds, that so many percent of them do not exceed.
pub(crate) fn percentile(latencies: &[Duration], percent: usize) -> f64 {
    let mut sorted = latencies.to_vec();
    sorted.sort();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |latency| latency.as_secs_f64() * 1e3)
}

pub(crate) struct Report {
    pub(crate) requests: usize,
    /// Invoices and coins of ours.
    pub(crate) originals: usize,
    pub(crate) foreign_coins: usize,
    pub(crate) rounds: Vec<Round>,
    pub(crate) asked: Vec<(Kind, Asked)>,
}

/// Two receivers at one level, against the aim.
struct Ratio {
    payers: usize,
    name: &'static str,
    value: f64,
    aim: String,
    met: bool,
}

impl Report {
    pub(crate) fn failures(&self) -> usize {
        self.rounds.iter().map(|round| round.failures).sum()
    }

    fn rate(&self, payers: usize, receiver: Kind) -> Option<f64> {
        let found = self.rounds.iter().find(|round| round.payers == payers && round.receiver == receiver);
        found.map(Round::rate)
    }

    fn ratios(&self) -> Vec<Ratio> {
        let mut levels: Vec<_> = self.rounds.iter().map(|round| round.payers).collect();
        levels.dedup();
        let mut ratios = Vec::new();
        for payers in levels {
            let Some(ours) = self.rate(payers, Kind::Ours) else { continue };
            if let Some(foreign) = self.rate(payers, Kind::PayjoinCli) {
                let (value, aim) = (ours / foreign, format!("at least {OVER_PAYJOIN_CLI}"));
                ratios.push(Ratio {
                    payers,
                    name: "ours / payjoin-cli",
                    value,
                    aim,
                    met: value >= OVER_PAYJOIN_CLI,
                });
            }
            if let Some(floor) = self.rate(payers, Kind::Floor) {
                let (value, aim) = (floor / ours, format!("at most {UNDER_FLOOR}"));
                ratios.push(Ratio { payers, name: "floor / ours", value, aim, met: value <= UNDER_FLOOR });
            }
        }
        ratios
    }

    /// What a node that is another program adds to the embedded one: payers, receiver, milliseconds of the median.
    fn added(&self) -> Vec<(usize, &'static str, f64)> {
        let beside = |round: &&Round| matches!(round.receiver, Kind::OursCln | Kind::OursLnd);
        let added = self.rounds.iter().filter(beside).filter_map(|round| {
            let is_embedded = |other: &&Round| other.payers == round.payers && other.receiver == Kind::Ours;
            let embedded = self.rounds.iter().find(is_embedded)?;
            Some((round.payers, round.receiver.name(), round.percentile(50) - embedded.percentile(50)))
        });
        added.collect()
    }

    pub(crate) fn json(&self) -> Value {
        let added = self.added().into_iter();
        let added =
            added.map(|(payers, name, ms)| json!({ "payers": payers, "receiver": name, "p50_ms": ms }));
        let rounds = self.rounds.iter().map(|round| {
            json!({
                "payers": round.payers,
                "receiver": round.receiver.name(),
                "per_second": round.rate(),
                "p50_ms": round.percentile(50),
                "p99_ms": round.percentile(99),
                "failures": round.failures,
            })
        });
        let ratios = self.ratios().into_iter().map(|ratio| {
            json!({ "payers": ratio.payers, "ratio": ratio.name, "value": ratio.value, "aim": ratio.aim, "met": ratio.met })
        });
        let asked = self.asked.iter().map(|(kind, asked)| {
            json!({ "receiver": kind.name(), "per_exchange": asked.round_trips, "methods": asked.methods })
        });
        json!({
            "machine": machine(),
            "requests": self.requests,
            "coins": self.originals,
            "foreign_coins": self.foreign_coins,
            "rounds": rounds.collect::<Vec<_>>(),
            "ratios": ratios.collect::<Vec<_>>(),
            "added": added.collect::<Vec<_>>(),
            "round_trips": asked.collect::<Vec<_>>(),
        })
    }

    fn stock(&self) -> String {
        let (ours, foreign) = (self.originals, self.foreign_coins);
        format!("Ours, a {BUILD} build, has {ours} coins, payjoin-cli {foreign}.")
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "machine: {}", machine())?;
        writeln!(
            f,
            "{} requests to each receiver at each level, a new TLS connection for each\n",
            self.requests
        )?;
        writeln!(
            f,
            "{:>6}  {:<12} {:>9} {:>9} {:>9} {:>9}",
            "payers", "receiver", "req/s", "p50 ms", "p99 ms", "failures"
        )?;
        for round in &self.rounds {
            let (rate, name) = (round.rate(), round.receiver.name());
            let (p50, p99) = (round.percentile(50), round.percentile(99));
            writeln!(
                f,
                "{:>6}  {name:<12} {rate:>9.1} {p50:>9.2} {p99:>9.2} {:>9}",
                round.payers, round.failures
            )?;
        }
        for (payers, name, ms) in self.added() {
            writeln!(f, "{payers:>6}  {name} takes {ms:.2} ms more than ours at the median")?;
        }
        let ratios = self.ratios();
        if !ratios.is_empty() {
            writeln!(f, "\n{:>6}  {:<18} {:>6}  aim", "payers", "requests a second", "ratio")?;
        }
        for Ratio { payers, name, value, aim, met } in ratios {
            let verdict = if met { "met" } else { "missed" };
            writeln!(f, "{payers:>6}  {name:<18} {value:>6.2}  {aim}: {verdict}")?;
        }
        writeln!(f, "\nround trips to bitcoind per exchange, as bitcoind logs them")?;
        for (kind, asked) in &self.asked {
            writeln!(f, "  {:<12} {:>5.1}  ({})", kind.name(), asked.round_trips, asked.calls())?;
        }
        write!(f, "\n{}\n{NOTES}", self.stock())
    }
}

const BUILD: &str = if cfg!(debug_assertions) { "debug" } else { "release" };

const NOTES: &str = "\
All receivers got the same Originals in turns, from the same payers, next to the same bitcoind; all of
them share this machine. Proposals of ours and of the floor are on disk before they leave; fsyncs are not counted.
Ours has an invoice and a coin for each request, because a repeated Original is answered from the store and a coin once
shown stays locked. The floor has one coin. Payers of payjoin-cli queue, because its database refuses those that come
side by side: their latency counts the wait. Where ours takes part, an Original has three outputs instead of two, which
costs payjoin-cli two of its round trips.";

pub(crate) fn machine() -> String {
    let cores = thread::available_parallelism().map_or(0, Into::into);
    let line = |path| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let cpu = line("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    let cpu = cpu.map_or("", |(_, name)| name.trim());
    let (kernel, load) = (line("/proc/sys/kernel/osrelease"), line("/proc/loadavg"));
    format!("{cores} cores, {cpu}, kernel {kernel}, load {load}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn round(receiver: Kind, seconds: u64) -> Round {
        let latencies = (1..=200).rev().map(Duration::from_millis).collect();
        Round { latencies, elapsed: Duration::from_secs(seconds), ..Round::new(4, receiver) }
    }

    fn report(ours: u64, foreign: u64, floor: u64) -> Report {
        let rounds =
            vec![round(Kind::Ours, ours), round(Kind::PayjoinCli, foreign), round(Kind::Floor, floor)];
        Report { requests: 200, originals: 648, foreign_coins: 16, rounds, asked: Vec::new() }
    }

    #[test]
    fn percentiles_are_latencies_that_were_seen() {
        let round = round(Kind::Ours, 1);
        assert_eq!((round.percentile(50), round.percentile(99)), (100.0, 198.0));
    }

    #[test]
    fn what_a_node_beside_adds_is_told_against_the_embedded_one() {
        let late = Round { latencies: vec![Duration::from_millis(150)], ..round(Kind::OursCln, 1) };
        let rounds = vec![round(Kind::Ours, 1), late];
        let report = Report { requests: 1, originals: 1, foreign_coins: 0, rounds, asked: Vec::new() };
        assert_eq!(report.added(), [(4, "ours-cln", 50.0)]);
    }

    #[test]
    fn failures_are_no_throughput() {
        assert_eq!(Round { failures: 100, ..round(Kind::Floor, 2) }.rate(), 50.0);
    }

    #[test]
    fn aims_are_met_at_their_bounds_and_missed_beyond() {
        let met = |report: Report| report.ratios().iter().map(|ratio| ratio.met).collect::<Vec<_>>();
        assert_eq!(met(report(3, 30, 2)), [true, true]);
        assert_eq!(met(report(4, 30, 2)), [false, false]);
    }
}
