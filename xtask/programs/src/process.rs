//! Running other programs.

use std::env;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use anyhow::{Context, Result, bail};

mod together;

/// Runs a program to its end, with its output on our terminal.
pub fn run(command: &mut Command) -> Result<()> {
    let mut child = together::spawn(command).with_context(|| format!("cannot start {}", name(command)))?;
    let status = together::wait(&mut child)?;
    if !status.success() {
        bail!("{} failed ({status})", line(command));
    }
    Ok(())
}

/// Runs a program to its end and returns what it wrote to stdout. If it fails, all that it wrote goes into the error.
pub fn output(command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().with_context(|| format!("cannot start {}", name(command)))?;
    if !output.status.success() {
        let told = String::from_utf8_lossy(&[output.stderr, output.stdout].concat()).into_owned();
        bail!("{} failed ({}): {}", line(command), output.status, told.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The command as a person would type it.
pub fn line(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

/// Where PATH has this program.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

/// A program that runs in the background. It is killed with all that it started, by its own process group, when this
/// value goes, and when a signal ends us.
#[derive(Debug)]
pub struct Server(Child);

impl Server {
    /// Starts it, with nothing on its stdin.
    pub fn start(command: &mut Command) -> Result<Self> {
        let child = together::spawn(command.stdin(Stdio::null()));
        child.map(Self).with_context(|| format!("cannot start {}", name(command)))
    }

    /// Takes the pipe to its stdout, if it was asked for.
    pub fn stdout(&mut self) -> Option<std::process::ChildStdout> {
        self.0.stdout.take()
    }

    /// The same for its stderr.
    pub fn stderr(&mut self) -> Option<std::process::ChildStderr> {
        self.0.stderr.take()
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// Sends a signal, named as `kill` names it, to it and to all that it started. The shell's `kill` is on every
    /// machine.
    pub fn signal(&self, name: &str) -> Result<()> {
        run(Command::new("sh").args(["-c", &format!("kill -s {name} -- -{}", self.0.id())]))
    }

    /// No file that it writes may grow beyond so many bytes; `None` for no limit.
    pub fn limit_files(&self, bytes: Option<u64>) -> Result<()> {
        let limit = bytes.map_or("unlimited".to_owned(), |bytes| bytes.to_string());
        run(Command::new("prlimit").args(["--pid", &self.0.id().to_string(), &format!("--fsize={limit}:")]))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        Ok(together::try_wait(&mut self.0)?)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        together::end(self.0.id());
        // Fails only when somebody has waited for it already.
        let _ = together::wait(&mut self.0);
    }
}

/// Holds `path` as a lock until the returned file is dropped, so that two runs never provision the same thing.
pub fn lock(path: &Path) -> Result<File> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)?;
    }
    let file = File::create(path).with_context(|| format!("cannot open {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => {
            eprintln!("waiting for another run that holds {}", path.display());
            file.lock()?;
        }
        Err(TryLockError::Error(error)) => return Err(error.into()),
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_reaches_what_a_server_started() {
        let mut server = Server::start(Command::new("sh").args(["-c", "sleep 600 & wait"])).unwrap();
        server.signal("STOP").unwrap();
        server.signal("CONT").unwrap();
        assert_eq!(server.ended().unwrap(), None);
        server.signal("TERM").unwrap();
        assert!(!together::wait(&mut server.0).unwrap().success());
    }

    #[test]
    fn a_program_on_path_is_found_with_its_folder() {
        let found = on_path("sh").unwrap();
        assert!(found.is_absolute());
        assert_eq!(on_path("no-such-program-anywhere"), None);
    }
}
