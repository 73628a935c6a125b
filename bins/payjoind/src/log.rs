//! The log, on standard error: text or JSON, and in a journal with levels.

use std::io::Write;
use std::os::unix::fs::MetadataExt;

use payjoin_node::settings::LogFormat;
use payjoin_node::{Logged, Output};
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// What is logged unless the operator says otherwise. A name stands for every target that begins with it, and the longest
/// counts. The library `payjoin` is none of ours. In a flood `tor_hsservice` warns of every introduction it drops.
const LOG: &str = "info,payjoin=error,payjoin_=info,payjoind=info,hyper=warn,ldk=warn,\
                   arti=warn,tor_=warn,tor_hsservice=error";

/// Who reads the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// Somebody at a terminal.
    Terminal,
    /// The journal of systemd: it has the time, and takes the level from the beginning of a line.
    Journal,
    /// A file, or another program.
    Other,
}

impl Reader {
    /// Who reads standard error.
    pub(crate) fn of_stderr(is_terminal: bool) -> Self {
        let journal = std::env::var("JOURNAL_STREAM").unwrap_or_default();
        let stderr = std::fs::metadata("/dev/stderr");
        match (is_terminal, stderr) {
            (true, _) => Self::Terminal,
            (_, Ok(file)) if journal == format!("{}:{}", file.dev(), file.ino()) => Self::Journal,
            _ => Self::Other,
        }
    }
}

/// Starts logging to `output`, also of panics: the usual way would wait for whoever reads it. `PAYJOIND_LOG` filters the
/// log.
pub(crate) fn start(output: Output, reader: Reader, format: LogFormat) {
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let filter = EnvFilter::try_from_env("PAYJOIND_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let lines = Lines { output, levels: reader == Reader::Journal };
    tracing_subscriber::registry().with(layer(lines, reader, format).with_filter(filter)).init();
}

fn layer<S>(lines: Lines, reader: Reader, format: LogFormat) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    // Errors of its own it would tell to the very place that takes nothing any more, and panic.
    let log = fmt::layer().with_writer(lines).log_internal_errors(false);
    match (format, reader) {
        (LogFormat::Json, _) => log.json().flatten_event(true).with_current_span(false).boxed(),
        (LogFormat::Text, Reader::Journal) => log.with_ansi(false).without_time().with_level(false).boxed(),
        (LogFormat::Text, reader) => log.with_ansi(reader == Reader::Terminal).boxed(),
    }
}

/// One event of the log becomes one line.
struct Entry(Output, Vec<u8>);

impl Write for Entry {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.1.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if !self.1.is_empty() {
            self.0.tell(std::mem::take(&mut self.1));
        }
    }
}

struct Lines {
    output: Output,
    levels: bool,
}

impl MakeWriter<'_> for Lines {
    type Writer = Entry;

    fn make_writer(&self) -> Entry {
        Entry(self.output.clone(), Vec::new())
    }

    fn make_writer_for(&self, event: &Metadata<'_>) -> Entry {
        Logged::count(*event.level());
        let begin = if self.levels { priority(*event.level()) } else { "" };
        Entry(self.output.clone(), begin.into())
    }
}

/// As `sd-daemon` writes them.
fn priority(level: Level) -> &'static str {
    match level {
        Level::ERROR => "<3>",
        Level::WARN => "<4>",
        Level::INFO => "<6>",
        _ => "<7>",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Sender, channel};
    use std::time::Duration;

    use super::*;

    struct Taker(Sender<Vec<u8>>);

    impl Write for Taker {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The line that an error and its field become.
    fn line(reader: Reader, format: LogFormat) -> String {
        let (taken, read) = channel();
        let output = Output::to(Taker(taken), |_| None);
        let lines = Lines { output: output.clone(), levels: reader == Reader::Journal };
        let log = tracing_subscriber::registry().with(layer(lines, reader, format));
        tracing::subscriber::with_default(log, || tracing::error!(exchange = 7, "it \"broke\""));
        output.flush(Duration::from_secs(10));
        String::from_utf8(read.try_iter().flatten().collect()).unwrap()
    }

    #[test]
    fn a_line_is_text_or_json_and_in_a_journal_it_begins_with_its_level() {
        let text = line(Reader::Other, LogFormat::Text);
        assert!(text.contains("ERROR") && text.ends_with("it \"broke\" exchange=7\n"), "{text}");
        let journal = line(Reader::Journal, LogFormat::Text);
        assert!(journal.starts_with("<3>payjoind::log::tests: it \"broke\" exchange=7"), "{journal}");
        let json = line(Reader::Other, LogFormat::Json);
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!((json["level"].as_str(), json["exchange"].as_u64()), (Some("ERROR"), Some(7)));
        assert_eq!(json["message"], "it \"broke\"");
        assert!(json["timestamp"].is_string(), "{json}");
        assert!(line(Reader::Terminal, LogFormat::Text).contains("\u{1b}["));
    }

    #[test]
    fn every_level_has_its_priority() {
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        assert_eq!(levels.map(priority), ["<3>", "<4>", "<6>", "<7>", "<7>"]);
    }

    #[test]
    fn who_is_at_a_terminal_reads_there_whatever_the_journal_is() {
        assert_eq!(Reader::of_stderr(true), Reader::Terminal);
        // The tests of a workspace run without a journal of their own.
        assert_ne!(Reader::of_stderr(false), Reader::Terminal);
    }
}
