//! Answers as text for people: `name  value` lines, a table for each list, a QR code for a payment request.

use std::fmt::Display;

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Map, Value, json};

/// What is printed, and sent, for a command that failed.
pub(crate) fn error(why: impl Display) -> Value {
    json!({ "error": why.to_string() })
}

/// A line among events for those that are not kept any more.
pub(crate) fn lost(count: u64) -> Value {
    json!({ "kind": "events_lost", "count": count })
}

/// The widest table; what is wider is shown as one block for each row.
const WIDEST: usize = 100;

/// The text of an answer. `colours`: the reader is a terminal.
pub(crate) fn text(answer: &Value, colours: bool) -> String {
    match answer {
        Value::Object(fields) => {
            // A session that has ended is nothing to scan.
            let open = fields.get("state").is_none_or(|state| state == "waiting");
            let uri = fields.get("uri").and_then(Value::as_str).filter(|_| open);
            let qr = uri.and_then(|uri| qr(uri, colours)).unwrap_or_default();
            format!("{qr}{}", object(fields))
        }
        other => scalar("", other),
    }
}

/// A terminal QR code with its quiet zone. Black on white whatever the colours of the terminal are; without colours
/// it is right on a dark background.
fn qr(uri: &str, colours: bool) -> Option<String> {
    let code = QrCode::new(uri.as_bytes()).ok()?;
    let code = code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build();
    let (on, off) = if colours { ("\x1b[97;40m", "\x1b[0m") } else { ("", "") };
    Some(code.lines().map(|line| format!("{on}{line}{off}\n")).collect())
}

/// What is for programs and for those who look for a fault.
const HIDDEN: [&str; 1] = ["said"];

fn shown(fields: &Map<String, Value>) -> impl Iterator<Item = (&String, &Value)> {
    fields.iter().filter(|(name, _)| !HIDDEN.contains(&name.as_str()))
}

fn object(fields: &Map<String, Value>) -> String {
    let width = shown(fields).map(|(name, _)| name.len()).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in shown(fields) {
        match value {
            Value::Array(rows) => text += &format!("{name}\n{}", rows_of(rows)),
            Value::Object(inner) => text += &format!("{name}\n{}", indent(&object(inner))),
            value => text += &format!("{name:width$}  {}\n", scalar(name, value)),
        }
    }
    text
}

/// The rows of a list.
pub(crate) fn rows_of(rows: &[Value]) -> String {
    let fields: Vec<&Map<String, Value>> = rows.iter().filter_map(Value::as_object).collect();
    if rows.is_empty() {
        return "  none\n".into();
    }
    if fields.is_empty() {
        return rows.iter().map(|row| format!("  {}\n", scalar("", row))).collect();
    }
    table(&fields).unwrap_or_else(|| {
        let blocks: Vec<String> = fields.iter().map(|row| indent(&object(row))).collect();
        blocks.join("\n")
    })
}

/// `None` when a cell is not a single word or the table would be too wide.
fn table(rows: &[&Map<String, Value>]) -> Option<String> {
    let columns: Vec<&String> = shown(rows.first()?).map(|(name, _)| name).collect();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|c| c.to_string()).collect()];
    for row in rows {
        if row.values().any(|cell| cell.is_array() || cell.is_object()) {
            return None;
        }
        lines.push(columns.iter().map(|c| scalar(c, row.get(*c).unwrap_or(&Value::Null))).collect());
    }
    let widest = |i: usize| lines.iter().filter_map(|l| l.get(i)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..columns.len()).filter_map(widest).collect();
    if widths.iter().map(|width| width + 2).sum::<usize>() > WIDEST {
        return None;
    }
    let numbers = |column: &&String| rows.iter().any(|row| row.get(*column).is_some_and(Value::is_u64));
    let right: Vec<bool> = columns.iter().map(|c| numbers(c) && !TIMES.contains(&c.as_str())).collect();
    let line = |line: &Vec<String>| {
        let cells = line.iter().zip(widths.iter().zip(&right)).map(|(cell, (&width, right))| match right {
            true => format!("{cell:>width$}"),
            false => format!("{cell:width$}"),
        });
        format!("  {}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    Some(lines.iter().map(line).collect())
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

/// Names of fields that hold seconds since the Unix epoch.
const TIMES: [&str; 3] = ["created", "expires", "fallback_at"];

fn scalar(name: &str, value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(s) => s.clone(),
        Value::Number(n) if TIMES.contains(&name) => n.as_u64().map_or_else(|| n.to_string(), utc),
        other => other.to_string(),
    }
}

/// `2026-11-23 00:52 UTC`. The calendar repeats itself every 400 years of 146,097 days; years begin in March, so that
/// the leap day is the last.
fn utc(seconds: u64) -> String {
    let (days, minutes) = (seconds / 86_400 + 719_468, seconds % 86_400 / 60);
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, year) = if month < 10 { (month + 3, year) } else { (month - 9, year + 1) };
    format!("{:04}-{month:02}-{day:02} {:02}:{:02} UTC", era * 400 + year, minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_become_tables_and_empty_lists_say_none() {
        let answer = json!({ "height": 7, "peers": [], "coins": [{ "amount": 5, "at": "a" }, { "amount": 10, "at": null }] });
        assert_eq!(
            text(&answer, false),
            "height  7\npeers\n  none\ncoins\n  amount  at\n       5  a\n      10  -\n"
        );
    }

    #[test]
    fn a_peers_own_words_are_not_for_people() {
        let row = json!({ "id": 1, "reason": "it wants more", "said": "chan size" });
        assert_eq!(text(&json!({ "intents": [row] }), false), "intents\n  id  reason\n   1  it wants more\n");
        assert_eq!(text(&row, false), "id      1\nreason  it wants more\n");
    }

    #[test]
    fn an_ended_session_shows_no_code_to_scan() {
        let session = |state| json!({ "state": state, "uri": "bitcoin:bcrt1qexample" });
        assert!(text(&session("waiting"), false).contains('█'));
        assert!(!text(&session("cancelled"), false).contains('█'));
    }

    #[test]
    fn rows_too_wide_for_a_line_become_blocks() {
        let id = "f".repeat(WIDEST);
        let answer = json!({ "channels": [{ "id": id, "vout": 1 }, { "id": "a", "vout": 2 }] });
        assert_eq!(
            text(&answer, false),
            format!("channels\n  id    {id}\n  vout  1\n\n  id    a\n  vout  2\n")
        );
    }

    #[test]
    fn seconds_become_dates() {
        let dates = [0, 951_782_400, 951_868_800, 1_704_067_199, 1_795_481_547, 4_107_542_400];
        assert_eq!(
            dates.map(utc),
            [
                "1970-01-01 00:00 UTC",
                "2000-02-29 00:00 UTC",
                "2000-03-01 00:00 UTC",
                "2023-12-31 23:59 UTC",
                "2026-11-24 00:52 UTC",
                "2100-03-01 00:00 UTC",
            ]
        );
        assert_eq!(
            text(&json!({ "expires": 60, "height": 60 }), false),
            "expires  1970-01-01 00:01 UTC\nheight   60\n"
        );
    }

    #[test]
    fn a_payment_request_shows_a_code_to_scan_and_its_text() {
        let answer = json!({ "uri": "bitcoin:bcrt1qexample?amount=0.001&pj=HTTPS://EXAMPLE.COM/A" });
        let shown = text(&answer, false);
        assert!(shown.contains('█') && shown.ends_with("pj=HTTPS://EXAMPLE.COM/A\n"), "{shown}");
        // White above, below and at both sides, four modules wide.
        let code: Vec<&str> = shown.lines().take_while(|line| !line.starts_with("uri")).collect();
        assert!(code[..2].iter().all(|line| line.chars().all(|c| c == '█')), "{shown}");
        assert!(
            code[..code.len() - 1].iter().all(|line| line.starts_with("████") && line.ends_with("████")),
            "{shown}"
        );
        let on_any_background = text(&answer, true);
        let coloured = |line: &str| line.starts_with("\x1b[97;40m") && line.ends_with("\x1b[0m");
        assert!(on_any_background.lines().take(code.len()).all(coloured));
    }
}
