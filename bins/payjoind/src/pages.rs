//! A list that comes in pages and is printed as it comes: neither the daemon nor this program holds all of it.

use std::io;
use std::path::Path;

use payjoin_node::requests::{ExchangeRequest, ExchangesArgs};
use payjoin_node::{ExchangeId, Request, control};
use serde_json::Value;

use crate::render;

/// Prints the exchanges that were asked for, in the shape of one answer. Gives the answer that is none of that kind.
pub(crate) async fn exchanges(
    socket: &Path,
    mut args: ExchangesArgs,
    json: bool,
    print: impl Fn(&str) -> io::Result<()>,
) -> io::Result<Option<Value>> {
    let mut first = true;
    loop {
        let request = Request::Exchange(ExchangeRequest::List(args));
        let answer = control::ask(socket, Some(&request)).await?;
        let Some(rows) = answer.get("exchanges").and_then(Value::as_array) else { return Ok(Some(answer)) };
        let last = rows.last().and_then(|row| row.get("id")).and_then(Value::as_u64);
        args.limit = args.limit.saturating_sub(u32::try_from(rows.len()).unwrap_or(u32::MAX));
        args.before = last.map(ExchangeId).or(args.before);
        let over = last.is_none() || args.limit == 0;
        print(&page(rows, json, first, over))?;
        if over {
            return Ok(None);
        }
        first = false;
    }
}

/// A page of the answer, the first, the last or one between.
fn page(rows: &[Value], json: bool, first: bool, over: bool) -> String {
    if !json {
        let (begin, rows) =
            (first.then_some("exchanges\n"), (first || !rows.is_empty()).then(|| render::rows_of(rows)));
        let between = (!first && rows.is_some()).then_some("\n");
        return [begin, between, rows.as_deref()].into_iter().flatten().collect();
    }
    let begin = if first { "{\"exchanges\":[" } else { "" };
    let between = if first || rows.is_empty() { "" } else { "," };
    let rows: Vec<_> = rows.iter().map(Value::to_string).collect();
    let end = if over { "]}\n" } else { "" };
    format!("{begin}{between}{}{end}", rows.join(","))
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
            let pages = |json| {
                let begins = [0].iter().chain(&ends);
                let one = |(from, to): (&usize, &usize)| {
                    page(&rows[*from..*to], json, *from == 0, (*from, *to) == last(&ends))
                };
                begins.zip(&ends).map(one).collect::<String>()
            };
            assert_eq!(pages(true), format!("{whole}\n"), "{ends:?}");
            assert_eq!(pages(false), render::text(&whole, false), "{ends:?}");
        }
        assert_eq!(page(&[], true, true, true), "{\"exchanges\":[]}\n");
        assert_eq!(page(&[], false, true, true), render::text(&read(r#"{"exchanges":[]}"#), false));
    }

    /// Where the last page begins and ends.
    fn last(ends: &[usize]) -> (usize, usize) {
        let begin = ends.len().checked_sub(2).map_or(0, |before| ends[before]);
        (begin, ends[ends.len() - 1])
    }
}
