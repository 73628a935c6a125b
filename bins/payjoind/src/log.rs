//! The log, on standard error.

use std::io::Write;

use payjoin_node::Output;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// What is logged unless the operator says otherwise. A name stands for every target that begins with it, and the longest
/// counts. The library `payjoin` is none of ours. In a flood `tor_hsservice` warns of every introduction it drops.
const LOG: &str = "info,payjoin=error,payjoin_=info,payjoind=info,hyper=warn,ldk=warn,\
                   arti=warn,tor_=warn,tor_hsservice=error";

/// Starts logging to `output`, also of panics: the usual way would wait for whoever reads it. `PAYJOIND_LOG` filters the
/// log.
pub(crate) fn start(output: Output, colours: bool) {
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
    let filter = EnvFilter::try_from_env("PAYJOIND_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let log = fmt::layer()
        .with_writer(Lines(output))
        .with_ansi(colours)
        // It would complain to the very place that takes nothing any more, and panic.
        .log_internal_errors(false)
        .with_filter(filter);
    tracing_subscriber::registry().with(log).init();
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

struct Lines(Output);

impl MakeWriter<'_> for Lines {
    type Writer = Entry;

    fn make_writer(&self) -> Entry {
        Entry(self.0.clone(), Vec::new())
    }
}
