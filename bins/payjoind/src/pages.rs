//! A list that comes in pages and is printed as it comes: neither the daemon nor this program holds all of it.

use std::io;
use std::path::Path;

use payjoin_node::requests::{ExchangeRequest, ExchangesArgs, PaymentRequest, PaymentsArgs, ShowPaymentArgs};
use payjoin_node::{ExchangeId, MovementId, Request, control};
use serde_json::Value;

use crate::cli::PaymentCommand;
use crate::{csv, render};

/// How pages are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Text,
    Json,
    Csv,
}

/// Prints the exchanges that were asked for, in the shape of one answer. Gives the answer that is none of that kind.
pub(crate) async fn exchanges(
    socket: &Path,
    args: ExchangesArgs,
    json: bool,
    print: impl Fn(&str) -> io::Result<()>,
) -> io::Result<Option<Value>> {
    let page = |limit, last: Option<u64>| {
        let before = last.map(ExchangeId).or(args.before);
        Request::Exchange(ExchangeRequest::List(ExchangesArgs { limit, before }))
    };
    let form = if json { Form::Json } else { Form::Text };
    all(socket, "exchanges", (args.limit, form), page, print).await
}

/// The same with payments; a single one is an answer.
pub(crate) async fn payments(
    socket: &Path,
    command: &PaymentCommand,
    json: bool,
    print: impl Fn(&str) -> io::Result<()>,
) -> io::Result<Option<Value>> {
    let list = |limit, last: Option<u64>| {
        let before = last.map(MovementId);
        Request::Payment(PaymentRequest::List(PaymentsArgs { limit, before }))
    };
    match *command {
        PaymentCommand::List { limit, csv } => {
            let form = match (csv, json) {
                (true, _) => Form::Csv,
                (_, true) => Form::Json,
                _ => Form::Text,
            };
            all(socket, "payments", (limit, form), list, print).await
        }
        PaymentCommand::Show { payment } => {
            let show = ShowPaymentArgs { payment: MovementId(payment) };
            control::ask(socket, Some(&Request::Payment(PaymentRequest::Show(show)))).await.map(Some)
        }
    }
}

/// Asks for page after page. `request` takes how many are left, and the last one that was printed.
async fn all(
    socket: &Path,
    name: &str,
    (mut limit, form): (u32, Form),
    request: impl Fn(u32, Option<u64>) -> Request,
    print: impl Fn(&str) -> io::Result<()>,
) -> io::Result<Option<Value>> {
    let (mut first, mut before) = (true, None);
    loop {
        let answer = control::ask(socket, Some(&request(limit, before))).await?;
        let Some(rows) = answer.get(name).and_then(Value::as_array) else { return Ok(Some(answer)) };
        let last = rows.last().and_then(|row| row.get("id")).and_then(Value::as_u64);
        limit = limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        before = last.or(before);
        let over = last.is_none() || limit == 0;
        print(&page(name, rows, form, (first, over)))?;
        if over {
            return Ok(None);
        }
        first = false;
    }
}

/// A page of the answer, the first, the last or one between.
fn page(name: &str, rows: &[Value], form: Form, (first, over): (bool, bool)) -> String {
    match form {
        Form::Text => {
            let begin = first.then(|| format!("{name}\n"));
            let rows_shown = (first || !rows.is_empty()).then(|| render::rows_of(rows));
            let between = (!first && rows_shown.is_some()).then(|| "\n".to_owned());
            [begin, between, rows_shown].into_iter().flatten().collect()
        }
        Form::Csv => {
            let head = rows.first().filter(|_| first).map(csv::head);
            head.into_iter().chain(rows.iter().map(csv::line)).collect()
        }
        Form::Json => {
            let begin = if first { format!("{{\"{name}\":[") } else { String::new() };
            let between = if first || rows.is_empty() { "" } else { "," };
            let rows: Vec<_> = rows.iter().map(Value::to_string).collect();
            let end = if over { "]}\n" } else { "" };
            format!("{begin}{between}{}{end}", rows.join(","))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str) -> Value {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn pages_are_printed_as_one_answer_would_be() {
        let rows: Vec<_> = (1..=3).map(|id| read(&format!(r#"{{"id":{id},"channels":[]}}"#))).collect();
        let list = Value::from(rows.clone());
        let whole = read(&format!(r#"{{"exchanges":{list}}}"#));
        for ends in [vec![3], vec![1, 3], vec![2, 3, 3], vec![3, 3]] {
            let pages = |form| {
                let begins = [0].iter().chain(&ends);
                let one = |(from, to): (&usize, &usize)| {
                    page("exchanges", &rows[*from..*to], form, (*from == 0, (*from, *to) == last(&ends)))
                };
                begins.zip(&ends).map(one).collect::<String>()
            };
            assert_eq!(pages(Form::Json), format!("{whole}\n"), "{ends:?}");
            assert_eq!(pages(Form::Text), render::text(&whole, false), "{ends:?}");
        }
        assert_eq!(page("exchanges", &[], Form::Json, (true, true)), "{\"exchanges\":[]}\n");
        assert_eq!(
            page("exchanges", &[], Form::Text, (true, true)),
            render::text(&read(r#"{"exchanges":[]}"#), false)
        );
    }

    /// Where the last page begins and ends.
    fn last(ends: &[usize]) -> (usize, usize) {
        let begin = ends.len().checked_sub(2).map_or(0, |before| ends[before]);
        (begin, ends[ends.len() - 1])
    }
}
