//! Our children end with us, and what they started too.

use std::collections::BTreeSet;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use rustix::process::{Pid, Signal, kill_process_group};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;

static RUNNING: Mutex<Running> = Mutex::new(Running { children: BTreeSet::new(), guarded: false });

struct Running {
    /// Those that have not ended. Each leads a process group.
    children: BTreeSet<u32>,
    /// Do signals end them?
    guarded: bool,
}

/// From the first child on, a signal that ends us ends our children first.
fn end_together() -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP, SIGINT, SIGTERM])?;
    thread::spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        // Never unlocked: nobody starts another child.
        let running = running();
        running.children.iter().copied().for_each(end);
        // As a shell tells it.
        exit(128 + signal);
    });
    Ok(())
}

/// Starts a child that ends with us.
pub(super) fn spawn(command: &mut Command) -> io::Result<Child> {
    let mut running = running();
    if !running.guarded {
        end_together()?;
        running.guarded = true;
    }
    let child = command.process_group(0).spawn()?;
    running.children.insert(child.id());
    Ok(child)
}

/// How it ended, if it did. From then on its id may be somebody else's.
pub(super) fn try_wait(child: &mut Child) -> io::Result<Option<ExitStatus>> {
    let mut running = running();
    let ended = child.try_wait()?;
    if ended.is_some() {
        running.children.remove(&child.id());
    }
    Ok(ended)
}

/// Waits for its end.
pub(super) fn wait(child: &mut Child) -> io::Result<ExitStatus> {
    let status = child.wait()?;
    running().children.remove(&child.id());
    Ok(status)
}

/// Kills it and all that it started.
pub(super) fn end(leader: u32) {
    if let Some(group) = i32::try_from(leader).ok().and_then(Pid::from_raw) {
        // Fails only when all of them have ended.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

/// A thread that panicked under this lock left a whole value behind.
fn running() -> MutexGuard<'static, Running> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    use super::*;

    #[test]
    fn a_child_is_ended_with_what_it_started() {
        // The pipe is open as long as one of the two lives.
        let mut child =
            spawn(Command::new("sh").args(["-c", "sleep 600 & echo; wait"]).stdout(Stdio::piped())).unwrap();
        assert!(running().children.contains(&child.id()));
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        lines.next().unwrap().unwrap();
        end(child.id());
        assert!(lines.next().is_none());
        assert!(!wait(&mut child).unwrap().success());
        assert!(!running().children.contains(&child.id()));
    }
}
