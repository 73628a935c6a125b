//! `payment`, `events` and `wait`; the last two are asked again and again, until there is what was asked for.

use std::io::{self, ErrorKind};
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use payjoin_node::requests::{EventsArgs, WaitArgs};
use payjoin_node::{EntryId, InvoiceId, Request, control};
use serde_json::Value;
use tokio::time::{Instant, sleep, timeout_at};

use crate::cli::{self, SeenCommand};
use crate::config::Place;
use crate::tell::{answered, fail, print, show, unanswered_text};
use crate::{pages, render};

/// Events in one answer, and how long an answer waits for one.
const PAGE: u32 = 500;
const POLL: u64 = 30;
/// Between tries to reach a daemon that restarts.
const PAUSE: Duration = Duration::from_secs(1);
/// Exit code of `wait` for a code that expired unpaid.
const EXPIRED: u8 = 3;
/// Exit code of `wait` whose time is over.
const TIMEOUT: u8 = 4;

pub(crate) async fn run(place: &Place, json: bool, command: SeenCommand) -> ExitCode {
    match command {
        SeenCommand::Payment(command) => {
            let answer = pages::payments(&place.daemon(), &command, json, print).await;
            answered(json, place, answer)
        }
        SeenCommand::Events(args) => events(place, json, &args, print).await,
        SeenCommand::Wait(args) => wait(place, json, args).await,
    }
}

/// Prints events, one line of JSON each.
async fn events(
    place: &Place,
    json: bool,
    args: &cli::EventsArgs,
    print: impl Fn(&str) -> io::Result<()>,
) -> ExitCode {
    let socket = place.daemon();
    let from_now = args.follow && args.since.is_none();
    let mut since = (!from_now).then(|| EntryId(args.since.unwrap_or(0)));
    let wait_seconds = if args.follow { POLL } else { 0 };
    // Nobody waits for the first answer: it says where the journal ends.
    let mut first = true;
    loop {
        let wait_seconds = if first { 0 } else { wait_seconds };
        let request = Request::Events(EventsArgs { since, limit: PAGE, wait_seconds });
        match control::ask(&socket, Some(&request)).await {
            Ok(answer) => match told(&answer) {
                Some((cursor, lines)) => {
                    if print(&lines).is_err() {
                        return ExitCode::FAILURE;
                    }
                    if lines.is_empty() && !args.follow {
                        return ExitCode::SUCCESS;
                    }
                    (since, first) = (Some(cursor), false);
                }
                // A daemon that starts or stops says so; one that was asked for what cannot be is not asked again.
                None if args.follow && since.is_some() && !first => sleep(PAUSE).await,
                None => return show(json, &answer),
            },
            Err(error) if args.follow && !first && is_away(&error) => sleep(PAUSE).await,
            Err(error) => return fail(json, &unanswered_text(place, &error)),
        }
    }
}

/// The place after these events, and their lines; where some are not kept any more, a line says so.
fn told(answer: &Value) -> Option<(EntryId, String)> {
    let cursor = answer.get("cursor")?.as_u64()?;
    let lost = answer.get("lost").and_then(Value::as_u64).filter(|lost| *lost > 0);
    let lost = lost.map(|lost| format!("{}\n", render::lost(lost)));
    let events = answer.get("events")?.as_array()?.iter().map(|event| format!("{event}\n"));
    Some((EntryId(cursor), lost.into_iter().chain(events).collect()))
}

/// Waits until a code is paid or has expired.
async fn wait(place: &Place, json: bool, args: cli::WaitArgs) -> ExitCode {
    let socket = place.daemon();
    let end = args.timeout.map(|timeout| Instant::now() + Duration::from_secs(timeout.seconds()));
    let invoice = InvoiceId(args.invoice);
    let mut first = true;
    loop {
        let left = end.map_or(POLL, |end| end.saturating_duration_since(Instant::now()).as_secs().min(POLL));
        let wait_seconds = if first { 0 } else { left.max(1) };
        let asked = WaitArgs { invoice: invoice.clone(), until: args.until.into(), wait_seconds };
        match ask(&socket, asked, end).await {
            Ok(None) => return ExitCode::from(TIMEOUT),
            Ok(Some(answer)) => match answer.get("state").and_then(Value::as_str) {
                Some("paid") => return show(json, &answer),
                Some("expired") => {
                    show(json, &answer);
                    return ExitCode::from(EXPIRED);
                }
                Some(_) => first = false,
                None if first => return show(json, &answer),
                None => sleep(PAUSE).await,
            },
            Err(error) if !first && is_away(&error) => sleep(PAUSE).await,
            Err(error) => return fail(json, &unanswered_text(place, &error)),
        }
        if end.is_some_and(|end| Instant::now() >= end) {
            return ExitCode::from(TIMEOUT);
        }
    }
}

/// `None`: the time is over.
async fn ask(socket: &Path, args: WaitArgs, end: Option<Instant>) -> io::Result<Option<Value>> {
    let request = Request::Wait(args);
    let asked = control::ask(socket, Some(&request));
    match end {
        // A moment more: the answer says whether it was paid in the last second.
        Some(end) => match timeout_at(end + PAUSE, asked).await {
            Ok(answer) => answer.map(Some),
            Err(_) => Ok(None),
        },
        None => asked.await.map(Some),
    }
}

/// The daemon is not there, or ended while it was asked.
fn is_away(error: &io::Error) -> bool {
    use ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound, Other};
    let ended = [BrokenPipe, ConnectionAborted, ConnectionRefused, ConnectionReset, NotFound, Other];
    ended.contains(&error.kind())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

    use super::*;

    #[test]
    fn events_are_lines_and_what_is_not_kept_any_more_is_told() {
        let answer = |text: &str| serde_json::from_str::<Value>(text).unwrap();
        let two = answer(r#"{"events":[{"id":4},{"id":5}],"cursor":5,"lost":0}"#);
        assert_eq!(told(&two), Some((EntryId(5), "{\"id\":4}\n{\"id\":5}\n".to_owned())));
        let lost = answer(r#"{"events":[{"id":4}],"cursor":4,"lost":3}"#);
        assert_eq!(told(&lost).unwrap().1, "{\"kind\":\"events_lost\",\"count\":3}\n{\"id\":4}\n");
        assert_eq!(told(&answer(r#"{"error":"it starts"}"#)), None);
    }

    /// A daemon that gives these answers, one for each connection. An empty one: it ends instead.
    fn daemon(folder: &Path, answers: &'static [&'static str]) -> tokio::task::JoinHandle<Vec<String>> {
        let listener = control::bind(&folder.join("payjoind.sock"), control::Access::Owner).unwrap();
        tokio::spawn(async move {
            let mut asked = Vec::new();
            for answer in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let mut line = String::new();
                BufReader::new(&mut stream).read_line(&mut line).await.unwrap();
                asked.push(line.trim_end().to_owned());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            asked
        })
    }

    fn followed(since: Option<u64>, follow: bool) -> cli::EventsArgs {
        cli::EventsArgs { follow, since }
    }

    #[tokio::test]
    async fn events_are_asked_for_from_page_to_page_until_there_are_no_more() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = daemon(
            folder.path(),
            &[r#"{"events":[{"id":8}],"cursor":8,"lost":0}"#, r#"{"events":[],"cursor":8,"lost":0}"#],
        );
        let printed = Mutex::new(String::new());
        let print = |text: &str| {
            printed.lock().unwrap().push_str(text);
            Ok(())
        };
        let code = events(&Place::below(folder.path()), true, &followed(Some(7), false), print).await;
        assert_eq!((code, printed.into_inner().unwrap().as_str()), (ExitCode::SUCCESS, "{\"id\":8}\n"));
        let asked = |since| format!(r#"{{"events":{{"since":{since},"limit":500,"wait_seconds":0}}}}"#);
        assert_eq!(daemon.await.unwrap(), [asked(7), asked(8)]);
    }

    #[tokio::test]
    async fn who_follows_goes_on_where_he_was_when_the_daemon_restarts_and_ends_when_nobody_reads() {
        let folder = tempfile::tempdir().unwrap();
        let daemon = daemon(
            folder.path(),
            &[
                r#"{"events":[],"cursor":3,"lost":0}"#,
                "",
                r#"{"error":"the node starts"}"#,
                r#"{"events":[{"id":4}],"cursor":4,"lost":0}"#,
            ],
        );
        let print = |text: &str| if text.is_empty() { Ok(()) } else { Err(ErrorKind::BrokenPipe.into()) };
        let code = events(&Place::below(folder.path()), true, &followed(None, true), print).await;
        assert_eq!(code, ExitCode::FAILURE);
        let asked = |since| format!(r#"{{"events":{{"since":{since},"limit":500,"wait_seconds":30}}}}"#);
        let first = r#"{"events":{"since":null,"limit":500,"wait_seconds":0}}"#.to_owned();
        assert_eq!(daemon.await.unwrap(), [first, asked(3), asked(3), asked(3)]);
    }

    #[tokio::test]
    async fn waiting_ends_with_what_became_of_the_code() {
        for (answers, timeout, code) in [
            (&[r#"{"state":"waiting"}"#, "", r#"{"state":"paid"}"#][..], None, ExitCode::SUCCESS),
            (&[r#"{"state":"expired"}"#], None, ExitCode::from(EXPIRED)),
            (&[r#"{"state":"waiting"}"#, r#"{"state":"waiting"}"#], Some("1s"), ExitCode::from(TIMEOUT)),
            (&[r#"{"error":"no code"}"#], None, ExitCode::FAILURE),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let daemon = daemon(folder.path(), answers);
            let timeout = timeout.map(|text: &str| text.parse().unwrap());
            let args = cli::WaitArgs { invoice: "abc".into(), until: cli::Until::Seen, timeout };
            assert_eq!(wait(&Place::below(folder.path()), true, args).await, code, "{answers:?}");
            daemon.abort();
        }
    }
}
