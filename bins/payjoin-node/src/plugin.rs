//! A node as a plugin of Core Lightning's: lightningd starts the program, names its own socket and network, and hands on
//! commands, which are the same requests as everywhere.

mod commands;
mod settings;

use std::ffi::OsString;
use std::sync::Arc;
use std::{fmt, io};

use payjoin_lightning::cln::plugin::{self, Ear, Init, Manifest, ManifestOption, Said};
use tokio::io::AsyncRead;
use tokio::sync::watch;

use crate::asked::Asked;
use crate::settings::Settings;
use commands::COMMANDS;

pub use settings::with_bitcoind;

/// Set by lightningd for the programs that it starts as plugins, and for what those start.
const STARTED_BY: &str = "LIGHTNINGD_PLUGIN";
/// The only argument that lightningd gives: it has it itself.
const DEVELOPER: &str = "--developer";

/// Whether lightningd has started this program, with these arguments, as its plugin.
pub fn is_started(mut arguments: impl Iterator<Item = OsString>) -> bool {
    std::env::var_os(STARTED_BY).is_some() && arguments.all(|word| word == DEVELOPER)
}

/// Speaks to lightningd: its log, and answers. Clones speak to the same one.
#[derive(Clone)]
pub struct Voice(Arc<dyn Fn(String) + Send + Sync>);

impl Voice {
    /// `say` hands over a message to lightningd, and waits for nobody.
    pub fn new(say: impl Fn(String) + Send + Sync + 'static) -> Self {
        Self(Arc::new(say))
    }

    /// A line of our log for lightningd's: it has a time of its own, and other names for levels.
    pub fn log(&self, line: &str) {
        let mut words = line.splitn(2, ' ');
        let is_time = |word: &str| word.contains('T') && word.ends_with('Z');
        let rest = match words.next() {
            Some(first) if is_time(first) => words.next().unwrap_or_default().trim_start(),
            _ => line,
        };
        let level = LEVELS.iter().find_map(|(ours, theirs)| Some((*theirs, rest.strip_prefix(ours)?)));
        let (level, text) = level.unwrap_or(("info", rest));
        (self.0)(plugin::log(level, text.trim_start()));
    }
}

/// Levels of our log, and lightningd's names for them.
const LEVELS: [(&str, &str); 5] =
    [("ERROR ", "broken"), ("WARN ", "unusual"), ("INFO ", "info"), ("DEBUG ", "debug"), ("TRACE ", "debug")];

impl fmt::Debug for Voice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Voice").finish_non_exhaustive()
    }
}

/// The lightningd that has started us.
#[derive(Debug)]
pub struct Lightningd<R> {
    ear: Ear<R>,
    voice: Voice,
}

impl<R: AsyncRead + Unpin> Lightningd<R> {
    /// Tells lightningd what there is, and gives the settings that come of its own; the error is for its log. `None` when
    /// lightningd only wanted to know.
    ///
    /// # Errors
    /// When it cannot be heard.
    pub async fn meet(from: R, voice: Voice) -> io::Result<Option<(Self, Result<Settings, String>)>> {
        let mut ear = Ear::new(from);
        while let Some(said) = ear.next().await? {
            match said {
                Said::Manifest(id) => (voice.0)(plugin::answer(&id, &manifest_value())),
                Said::Init(id, init) => {
                    (voice.0)(plugin::answer(&id, &serde_json::Map::new().into()));
                    return Ok(Some((Self { ear, voice }, settings_of(&init))));
                }
                Said::Shutdown => return Ok(None),
                Said::Call { .. } | Said::Other => {}
            }
        }
        Ok(None)
    }

    /// Answers commands until lightningd ends, or tells us to.
    pub async fn serve(mut self, asked: watch::Receiver<Asked>) {
        loop {
            match self.ear.next().await {
                Ok(Some(Said::Call { id, method, params })) => {
                    let (voice, asked) = (self.voice.clone(), asked.borrow().clone());
                    tokio::spawn(async move {
                        (voice.0)(commands::answer(&id, &method, params, &asked).await);
                    });
                }
                Ok(Some(Said::Manifest(_) | Said::Init(..) | Said::Other)) => {}
                Ok(Some(Said::Shutdown) | None) | Err(_) => return,
            }
        }
    }
}

fn settings_of(init: &Init) -> Result<Settings, String> {
    let settings = settings::read(init)?;
    let mut checked = settings.clone();
    checked.resolve();
    checked.check().map_err(|error| error.to_string())?;
    Ok(settings)
}

fn manifest() -> Manifest {
    Manifest {
        options: settings::OPTIONS
            .iter()
            .map(|(name, multi, description)| ManifestOption {
                name,
                kind: "string",
                description,
                multi: *multi,
            })
            .collect(),
        rpcmethods: COMMANDS.iter().map(commands::Command::method).collect(),
        subscriptions: vec!["shutdown"],
        dynamic: true,
        nonnumericids: true,
    }
}

fn manifest_value() -> serde_json::Value {
    // Plain data: it cannot fail.
    serde_json::to_value(manifest()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MANIFEST: &str = r#"{"id":1,"method":"getmanifest"}"#;

    fn init(folder: &std::path::Path) -> String {
        let folder = folder.display();
        format!(
            r#"{{"id":2,"method":"init","params":{{"options":{{}},"configuration":{{"lightning-dir":"{folder}",
            "rpc-file":"lightning-rpc","network":"regtest"}}}}}}"#
        )
    }

    /// The settings that come of what lightningd says, and all that it is told.
    async fn meeting(text: &str) -> (Option<Result<Settings, String>>, String) {
        let (said, mut answers) = tokio::sync::mpsc::unbounded_channel();
        let voice = Voice::new(move |message| said.send(message).unwrap());
        let met = Lightningd::meet(text.as_bytes(), voice).await.unwrap();
        let settings = match met {
            Some((lightningd, settings)) => {
                let asked = watch::Sender::new(Asked::Nobody("it starts".to_owned()));
                lightningd.serve(asked.subscribe()).await;
                Some(settings)
            }
            None => None,
        };
        let mut all = String::new();
        while let Some(answer) = answers.recv().await {
            all += &answer;
        }
        (settings, all)
    }

    #[tokio::test]
    async fn a_line_of_our_log_is_lightningds_with_its_level() {
        let lines = std::sync::Mutex::new(Vec::new());
        let lines = Arc::new(lines);
        let kept = Arc::clone(&lines);
        let voice = Voice::new(move |message| kept.lock().unwrap().push(message));
        for (line, level, text) in [
            ("2026-11-29T18:00:00.1Z ERROR payjoind: it broke", "broken", "payjoind: it broke"),
            ("2026-11-29T18:00:00.1Z  WARN payjoind: odd", "unusual", "payjoind: odd"),
            ("Original PSBT  inputs=1", "info", "Original PSBT  inputs=1"),
        ] {
            voice.log(line);
            let message = lines.lock().unwrap().pop().unwrap();
            for part in [format!("\"level\":\"{level}\""), format!("\"message\":\"{text}\"")] {
                assert!(message.contains(&part), "{part}: {message}");
            }
        }
    }

    #[tokio::test]
    async fn lightningd_is_told_what_there_is_and_names_its_socket_and_network() {
        let folder = tempfile::tempdir().unwrap();
        let said = format!("{MANIFEST}\n\n{}\n\n", init(folder.path()));
        let (settings, answers) = meeting(&said).await;
        let settings = settings.unwrap().unwrap();
        assert_eq!(settings.cln_socket(), folder.path().join("lightning-rpc"));
        assert_eq!(
            (settings.network, settings.datadir),
            (bitcoin::Network::Regtest, folder.path().join("payjoind"))
        );
        for word in
            ["payjoin-receive", "payjoin-queue", "payjoin-list", "payjoin-dir", "shutdown", r#""id":2"#]
        {
            assert!(answers.contains(word), "{word}: {answers}");
        }
        let (settings, _) = meeting(&format!("{MANIFEST}\n\n")).await;
        assert!(settings.is_none(), "it only wanted to know");
    }

    #[tokio::test]
    async fn a_broken_setting_is_told_and_commands_say_why_nobody_answers() {
        let folder = tempfile::tempdir().unwrap();
        let below = folder.path().join("payjoind");
        std::fs::create_dir(&below).unwrap();
        for (file, word) in [
            ("[http]\nlisten = \"127.0.0.1:1\"", "[http] `listen` is for TLS"),
            ("nonsense", "payjoind.toml"),
            ("[lightning]\nbackend = \"lnd\"", "backend"),
        ] {
            std::fs::write(below.join("payjoind.toml"), file).unwrap();
            let call = r#"{"id":3,"method":"payjoin-list","params":[]}"#;
            let (settings, answers) = meeting(&format!("{}\n\n{call}\n\n", init(folder.path()))).await;
            let error = settings.unwrap().unwrap_err();
            assert!(error.contains(word), "{error}");
            assert!(answers.contains("it starts"), "{answers}");
        }
    }
}
