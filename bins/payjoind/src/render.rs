//! Answers as text for people: `name  value` lines, a table for each list, a QR code for a payment request.

use qrcode::QrCode;
use qrcode::render::unicode::Dense1x2;
use serde_json::{Map, Value};

/// The text of an answer.
pub(crate) fn text(answer: &Value) -> String {
    match answer {
        Value::Object(fields) => {
            let qr = fields.get("uri").and_then(Value::as_str).and_then(qr).unwrap_or_default();
            format!("{qr}{}", object(fields))
        }
        other => scalar(other),
    }
}

/// A terminal QR code of a BIP 21 URI, upper case where that is allowed so that the code stays small.
fn qr(uri: &str) -> Option<String> {
    let code = QrCode::new(uri.as_bytes()).ok()?;
    Some(format!(
        "{}\n",
        code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build()
    ))
}

fn object(fields: &Map<String, Value>) -> String {
    let width = fields.keys().map(String::len).max().unwrap_or(0);
    let mut text = String::new();
    for (name, value) in fields {
        match value {
            Value::Array(rows) => text += &format!("{name}\n{}", table(rows)),
            Value::Object(inner) => text += &format!("{name}\n{}", indent(&object(inner))),
            value => text += &format!("{name:width$}  {}\n", scalar(value)),
        }
    }
    text
}

fn table(rows: &[Value]) -> String {
    let Some(Value::Object(first)) = rows.first() else {
        let lines: Vec<_> = rows.iter().map(|r| format!("  {}\n", scalar(r))).collect();
        return if lines.is_empty() { "  none\n".into() } else { lines.concat() };
    };
    let columns: Vec<&String> = first.keys().collect();
    let mut lines: Vec<Vec<String>> = vec![columns.iter().map(|c| c.to_string()).collect()];
    lines.extend(rows.iter().map(|row| columns.iter().map(|c| scalar(&row[c.as_str()])).collect()));
    let widths: Vec<usize> =
        (0..columns.len()).map(|i| lines.iter().map(|l| l[i].chars().count()).max().unwrap_or(0)).collect();
    let mut text = String::new();
    for line in lines {
        let cells: Vec<String> =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        text += &format!("  {}\n", cells.join("  ").trim_end());
    }
    text
}

fn indent(text: &str) -> String {
    text.lines().map(|l| format!("  {l}\n")).collect()
}

fn scalar(value: &Value) -> String {
    match value {
        Value::Null => "-".into(),
        Value::String(s) => s.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn lists_become_tables_and_empty_lists_say_none() {
        let answer = json!({ "height": 7, "peers": [], "coins": [{ "amount": 5, "at": "a" }, { "amount": 10, "at": null }] });
        assert_eq!(
            text(&answer),
            "coins\n  amount  at\n  5       a\n  10      -\nheight  7\npeers\n  none\n"
        );
    }

    #[test]
    fn a_payment_request_shows_a_code_to_scan_and_its_text() {
        let shown = text(&json!({ "uri": "bitcoin:bcrt1qexample?amount=0.001&pj=HTTPS://EXAMPLE.COM/A" }));
        assert!(shown.contains('█') && shown.ends_with("pj=HTTPS://EXAMPLE.COM/A\n"), "{shown}");
    }
}
