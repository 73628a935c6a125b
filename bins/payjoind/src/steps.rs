//! Shows the steps of each exchange on standard output; everything else is a log and goes to standard error.
//!
//! The libraries tell a step as a `tracing` event with the target `step`, its name in the field `step` and details in
//! the others.

use std::fmt::Debug;
use std::io::{IsTerminal, Write};

use serde_json::{Map, Value};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::filter::{EnvFilter, filter_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt};

/// The target that marks a step.
pub(crate) const STEP: &str = "step";

/// What is logged unless the operator says otherwise. A name stands for every target that begins with it, and the longest
/// counts. The library `payjoin` is none of ours. In a flood `tor_hsservice` warns of every introduction it drops.
const LOG: &str = "info,payjoin=error,payjoin_=info,payjoind=info,hyper=warn,ldk=warn,\
                   arti=warn,tor_=warn,tor_hsservice=error";

/// Starts logging. `json` prints one JSON object a step instead of a line of text. `PAYJOIND_LOG` filters the log.
pub(crate) fn start(json: bool) {
    let filter = EnvFilter::try_from_env("PAYJOIND_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let log = fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        // It would complain to the very place that takes nothing any more, and panic.
        .log_internal_errors(false)
        .with_filter(filter)
        .with_filter(filter_fn(|m| m.target() != STEP));
    let steps = Steps { json, out: std::io::stdout }.with_filter(filter_fn(|m| m.target() == STEP));
    tracing_subscriber::registry().with(log).with(steps).init();
}

struct Steps<W> {
    json: bool,
    out: fn() -> W,
}

impl<S: Subscriber, W: Write + 'static> Layer<S> for Steps<W> {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let line = if self.json { Value::Object(fields.0).to_string() } else { line(&fields.0) };
        // On a full disk, or when whoever read it is gone, the step is not shown. Nothing else may come of that.
        let _ = (self.out)().write_all(format!("{line}\n").as_bytes());
    }
}

fn line(fields: &Map<String, Value>) -> String {
    let show = |v: &Value| v.as_str().map_or_else(|| v.to_string(), str::to_owned);
    let details: Vec<_> = fields
        .iter()
        .filter(|(name, _)| *name != "step")
        .map(|(name, value)| format!("{name}={}", show(value)))
        .collect();
    format!("{:18} {}", fields.get("step").map(show).unwrap_or_default(), details.join(" "))
}

#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }
    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Error, Result};

    use super::*;

    struct FullDisk;

    impl Write for FullDisk {
        fn write(&mut self, _: &[u8]) -> Result<usize> {
            Err(Error::other("no space left"))
        }

        fn flush(&mut self) -> Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_step_that_cannot_be_shown_disturbs_nobody() {
        let steps = Steps { json: true, out: || FullDisk };
        tracing::subscriber::with_default(tracing_subscriber::registry().with(steps), || {
            tracing::info!(target: STEP, step = "Proposal PSBT");
        });
    }
}
