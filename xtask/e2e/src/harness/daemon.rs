//! One payjoind: started, spoken to through its command line, and killed.

use std::fs::{self, DirBuilder, File};
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::chain::Chain;
use super::json::Fields;
use super::tls::Certificate;
use super::wait;
use xtask_programs::ports;
use xtask_programs::process::{self, Server};

/// Called for every step that a daemon reports.
pub(crate) type Listener = Box<dyn Fn(&Value) + Send>;

/// How to start a daemon. The defaults do for most cases.
#[derive(Default)]
pub(crate) struct Options {
    /// Lines of the `[policy]` table.
    pub(crate) policy: &'static str,
    /// More lines of the `[lightning]` table.
    pub(crate) lightning: String,
    /// Lines of the `[payjoin]` table.
    pub(crate) payjoin: String,
    /// Lines of the `[tor]` table.
    pub(crate) tor: String,
    /// More tables.
    pub(crate) more: String,
    /// Milliseconds between its looks at the chain; `None` for a short time.
    pub(crate) poll_ms: Option<u32>,
    /// Words before the program's own that start it somewhere else.
    pub(crate) prefix: Vec<String>,
    /// Hears every step as it happens.
    pub(crate) listener: Option<Listener>,
    /// The node that it uses, where it has none inside.
    pub(crate) own: Option<Own>,
}

/// The setting that lets these take several channels in one payment.
pub(crate) fn several_at_once(peers: &[&Daemon]) -> String {
    let ids = peers.iter().map(|peer| peer.peer.split('@').next().unwrap_or_default());
    format!("several_at_once = {:?}", ids.collect::<Vec<_>>())
}

/// A node of another project behind a daemon.
pub(crate) struct Own {
    /// `[lightning] backend`.
    pub(crate) backend: &'static str,
    /// The table of the settings that leads to it.
    pub(crate) table: String,
    /// As other nodes want it: `id@host:port`.
    pub(crate) peer: String,
}

pub(crate) struct Daemon {
    pub(crate) name: &'static str,
    /// Its Lightning identity with its address, as other nodes want it.
    pub(crate) peer: String,
    /// The listener without TLS.
    pub(crate) plain: SocketAddr,
    /// Its Lightning node is another program, which sees the chain in its own time.
    pub(crate) has_own_node: bool,
    program: PathBuf,
    prefix: Vec<String>,
    dir: PathBuf,
    pub(super) shared: Arc<Shared>,
}

/// What the thread that reads the steps works on too.
#[derive(Default)]
pub(super) struct Shared {
    pub(super) server: Mutex<Option<Server>>,
    steps: Mutex<Vec<Value>>,
    /// The step at which it is killed.
    trap: Mutex<Option<&'static str>>,
}

impl Daemon {
    /// Writes its configuration below `dir`, starts it and waits until it has the chain.
    pub(crate) fn start(
        program: &Path,
        dir: &Path,
        name: &'static str,
        options: Options,
        chain: &Chain,
        tls: &Certificate,
    ) -> Result<Self> {
        let data = dir.join(name);
        DirBuilder::new().mode(0o700).create(&data)?;
        let lightning = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let plain = SocketAddr::from(([127, 0, 0, 1], ports::free()?));
        let settings = configuration(lightning, ports::free()?, plain, &options, chain, tls);
        fs::write(data.join("payjoind.toml"), settings)?;
        let mut daemon = Self {
            name,
            peer: String::new(),
            plain,
            has_own_node: options.own.is_some(),
            program: program.to_path_buf(),
            prefix: options.prefix,
            dir: data,
            shared: Arc::default(),
        };
        daemon.run(options.listener, &["run"])?;
        daemon.peer = match options.own {
            Some(own) => own.peer,
            None => format!("{}@{lightning}", daemon.call(&["status"])?.text("node_id")?),
        };
        daemon.wait_for_height(chain.height()?)?;
        Ok(daemon)
    }

    fn run(&self, listener: Option<Listener>, words: &[&str]) -> Result<()> {
        let log = self.append("log")?;
        let mut told = self.append("steps.log")?;
        let run = self.launcher();
        // A file that may not grow fails to be written, as on a full disk, instead of ending the process.
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"]).arg(run.get_program()).args(run.get_args());
        let mut server = Server::start(command.args(words).stdout(Stdio::piped()).stderr(log))?;
        let stdout = server.stdout().context("no pipe to the daemon")?;
        let shared = Arc::clone(&self.shared);
        thread::spawn(move || record(stdout, &mut told, listener, &shared));
        self.await_answer(server)
    }

    pub(super) fn await_answer(&self, mut server: Server) -> Result<()> {
        wait::until(&format!("{} answers", self.name), Duration::from_secs(90), || {
            if let Some(status) = server.ended()? {
                bail!("{} ended at once ({status}); see its logs", self.name);
            }
            Ok(self.call(&["status"]).ok())
        })?;
        *lock(&self.shared.server) = Some(server);
        Ok(())
    }

    /// The setting for another daemon that lets this one take several channels in one payment.
    pub(crate) fn several_at_once(&self) -> String {
        several_at_once(&[self])
    }

    fn append(&self, end: &str) -> Result<File> {
        let path = self.dir.with_file_name(format!("{}.{end}", self.name));
        Ok(File::options().create(true).append(true).open(path)?)
    }

    /// Kills it without a word. What it made durable stays.
    pub(crate) fn kill(&self) {
        lock(&self.shared.server).take();
    }

    /// Kills it as soon as it reports this step.
    pub(crate) fn kill_at(&self, step: &'static str) {
        *lock(&self.shared.trap) = Some(step);
    }

    /// Waits until [`Daemon::kill_at`] has done its work.
    pub(crate) fn await_death(&self) -> Result<()> {
        wait::until(&format!("{} is killed", self.name), Duration::from_secs(20), || {
            Ok((!self.is_running()).then_some(()))
        })
    }

    /// Starts it again after it was killed. It reports its steps anew.
    pub(crate) fn restart(&self) -> Result<()> {
        self.restart_as(&["run"])
    }

    /// The same with another command than `run`.
    pub(crate) fn restart_as(&self, words: &[&str]) -> Result<()> {
        lock(&self.shared.steps).clear();
        self.run(None, words)
    }

    /// Lets it do nothing until [`Daemon::thaw`]. Its connections stay open.
    pub(crate) fn freeze(&self) -> Result<()> {
        self.signal("STOP")
    }

    pub(crate) fn thaw(&self) -> Result<()> {
        self.signal("CONT")
    }

    /// From now on none of its files can grow, its log neither.
    pub(crate) fn fill_disk(&self) -> Result<()> {
        lock(&self.shared.server).as_ref().context("it does not run")?.limit_files(Some(1))
    }

    /// Its files may grow again.
    pub(crate) fn clear_disk(&self) -> Result<()> {
        lock(&self.shared.server).as_ref().context("it does not run")?.limit_files(None)
    }

    pub(crate) fn signal(&self, name: &str) -> Result<()> {
        lock(&self.shared.server).as_ref().context("it does not run")?.signal(name)
    }

    /// Its process id, while it runs.
    pub(crate) fn id(&self) -> Option<u32> {
        lock(&self.shared.server).as_ref().map(Server::id)
    }

    /// The most memory that it ever had, in MiB.
    pub(crate) fn peak_memory(&self) -> Result<u64> {
        Ok(self.status_kib("VmHWM:")? / 1024)
    }

    /// The memory that it has, in KiB.
    pub(crate) fn memory(&self) -> Result<u64> {
        self.status_kib("VmRSS:")
    }

    fn status_kib(&self, name: &str) -> Result<u64> {
        let id = self.id().context("it does not run")?;
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let kib = line.and_then(|line| line.split_whitespace().next());
        Ok(kib.with_context(|| format!("no {name} in its status"))?.parse()?)
    }

    pub(crate) fn is_running(&self) -> bool {
        lock(&self.shared.server).is_some()
    }

    /// Runs a command and returns the object that it prints.
    pub(crate) fn call(&self, arguments: &[&str]) -> Result<Value> {
        let printed = process::output(self.command().args(arguments))?;
        serde_json::from_str(&printed)
            .with_context(|| format!("{}: not JSON: {printed}", arguments.join(" ")))
    }

    /// Runs a command that must fail, or that the command line refuses, and returns why.
    pub(crate) fn refusal(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command().args(arguments).stdin(Stdio::null()).output()?;
        let (told, name) = (String::from_utf8_lossy(&output.stdout), arguments.join(" "));
        ensure!(matches!(output.status.code(), Some(1 | 2)), "{name} should fail: {} {told}", output.status);
        let last = told.lines().last().unwrap_or_default();
        let answer: Value =
            serde_json::from_str(last).with_context(|| format!("{name}: not JSON: {told}"))?;
        Ok(answer.text("error")?.to_owned())
    }

    /// What `doctor` finds, and it must find a fault.
    pub(crate) fn diagnosis(&self) -> Result<String> {
        let output = self.command().arg("doctor").output()?;
        ensure!(output.status.code() == Some(1), "doctor finds no fault");
        Ok(String::from_utf8(output.stdout)?)
    }

    /// What a command prints for people.
    pub(crate) fn print(&self, arguments: &[&str]) -> Result<String> {
        process::output(Command::new(&self.program).arg("--datadir").arg(&self.dir).args(arguments))
    }

    /// Its log so far.
    pub(crate) fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.with_file_name(format!("{}.log", self.name)))?)
    }

    /// What it has told on stdout so far: its steps, and why it ended.
    pub(crate) fn told(&self) -> Result<String> {
        Ok(fs::read_to_string(self.dir.with_file_name(format!("{}.steps.log", self.name)))?)
    }

    /// The folder that holds its seed, database and settings.
    pub(crate) fn folder(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn command(&self) -> Command {
        self.words(Command::new(&self.program))
    }

    /// The same where the daemon itself is to run.
    fn launcher(&self) -> Command {
        let Some((first, rest)) = self.prefix.split_first() else { return self.command() };
        let mut command = Command::new(first);
        command.args(rest).arg(&self.program);
        self.words(command)
    }

    fn words(&self, mut command: Command) -> Command {
        command.arg("--datadir").arg(&self.dir).arg("--json");
        command
    }

    pub(crate) fn wait_for_height(&self, height: u64) -> Result<()> {
        wait::until(&format!("{} has block {height}", self.name), Duration::from_secs(20), || {
            Ok((self.call(&["status"])?.number("height")? >= height).then_some(()))
        })
    }

    /// The first report of this step, past or to come.
    pub(crate) fn step(&self, name: &str) -> Result<Value> {
        // Another program's node may need one more connection until a channel can be used.
        let patience = Duration::from_secs(if self.has_own_node { 60 } else { 20 });
        wait::until(&format!("{} reports \"{name}\"", self.name), patience, || {
            let steps = lock(&self.shared.steps);
            Ok(steps.iter().find(|step| step["step"] == name).cloned())
        })
    }

    /// How often it has reported this step of a channel with that peer.
    pub(crate) fn steps_with(&self, name: &str, peer: &Self) -> usize {
        let is_peer = |id: &Value| id.as_str().is_some_and(|id| peer.peer.starts_with(id));
        let steps = lock(&self.shared.steps);
        steps.iter().filter(|step| step["step"] == name && is_peer(&step["peer"])).count()
    }
}

impl Drop for Daemon {
    /// The thread that reads its steps holds it as well, and reads until it ends.
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads what the daemon tells until it ends.
fn record(stdout: ChildStdout, told: &mut File, listener: Option<Listener>, shared: &Shared) {
    for line in BufReader::new(stdout).lines().map_while(Result::ok) {
        let Ok(step) = serde_json::from_str::<Value>(&line) else { continue };
        if lock(&shared.trap).take_if(|trap| step["step"] == *trap).is_some() {
            // Under its lock: until it is dead it is running.
            drop(lock(&shared.server).take());
        }
        // The file is for people who look for a fault; a full disk shows elsewhere.
        let _ = writeln!(told, "{line}");
        if let Some(listener) = &listener {
            listener(&step);
        }
        lock(&shared.steps).push(step);
    }
}

/// A thread that panicked under one of these locks left a whole value behind.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `[lightning]`, and the table of the operator's own node.
fn lightning_tables(listen: SocketAddr, Options { own, lightning, .. }: &Options) -> String {
    match own {
        None => format!("[lightning]\nlisten = \"{listen}\"\ninbound_without_coins = true\n{lightning}"),
        Some(Own { backend, table, .. }) => {
            format!("[lightning]\nbackend = {backend:?}\n{lightning}\n{table}")
        }
    }
}

fn configuration(
    lightning: SocketAddr,
    port: u16,
    plain: SocketAddr,
    options: &Options,
    chain: &Chain,
    tls: &Certificate,
) -> String {
    let Options { policy, payjoin, tor, more, .. } = options;
    let (url, cookie, poll) = (chain.url(), chain.cookie(), options.poll_ms.unwrap_or(200));
    let Certificate { certificate, key, .. } = tls;
    let lightning = lightning_tables(lightning, options);
    format!(
        r#"network = "regtest"
[bitcoind]
url = "{url}"
cookie = {cookie:?}
block_poll_ms = {poll}
mempool_poll_ms = {poll}

{lightning}

[http]
listen = "127.0.0.1:{port}"
plain_listen = "{plain}"
certificate = {certificate:?}
key = {key:?}
public_endpoint = "https://localhost:{port}"
rate_per_minute = 0

[policy]
{policy}
[tor]
{tor}
[payjoin]
{payjoin}
{more}
"#
    )
}
