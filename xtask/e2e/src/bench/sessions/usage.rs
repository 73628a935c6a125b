//! What a process holds, from /proc.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::harness::Daemon;

/// Ticks of a second in /proc. Linux shows it so on every machine.
const TICKS: u64 = 100;

/// What a process holds.
pub(crate) struct Usage {
    /// Resident memory in KiB.
    pub(crate) memory: u64,
    /// Open file descriptors.
    pub(crate) files: usize,
    /// CPU time since it began.
    pub(crate) cpu: Duration,
}

impl Usage {
    pub(crate) fn of(daemon: &Daemon) -> Result<Self> {
        let folder = format!("/proc/{}", daemon.id().context("payjoind has ended")?);
        let status = fs::read_to_string(format!("{folder}/status"))?;
        let stat = fs::read_to_string(format!("{folder}/stat"))?;
        let files = fs::read_dir(format!("{folder}/fd"))?.count();
        Ok(Self { memory: memory(&status)?, files, cpu: cpu(&stat)? })
    }
}

fn memory(status: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    Ok(line.trim().trim_end_matches("kB").trim().parse()?)
}

/// User and system time are the 14th and 15th field; the second is a name in parentheses that may hold spaces.
fn cpu(stat: &str) -> Result<Duration> {
    let (_, fields) = stat.rsplit_once(')').context("no name")?;
    let ticks: Vec<u64> =
        fields.split_whitespace().skip(11).take(2).map(str::parse).collect::<Result<_, _>>()?;
    Ok(Duration::from_millis(ticks.iter().sum::<u64>() * 1000 / TICKS))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_and_time_are_read_from_the_lines_of_linux() {
        assert_eq!(memory("Name:\tx\nVmRSS:\t   1234 kB\nThreads:\t1\n").unwrap(), 1234);
        let stat = "7 (a b) c) S 1 7 7 0 -1 4194304 500 0 0 0 150 50 0 0 20 0 3 0 100";
        assert_eq!(cpu(stat).unwrap(), Duration::from_secs(2));
    }
}
