//! Rows as comma separated values, for spreadsheets.

use serde_json::Value;

/// The line of names, from a row.
pub(crate) fn head(row: &Value) -> String {
    let names = row.as_object().into_iter().flatten().map(|(name, _)| cell(name));
    format!("{}\r\n", names.collect::<Vec<_>>().join(","))
}

/// A row. RFC 4180.
pub(crate) fn line(row: &Value) -> String {
    let values = row.as_object().into_iter().flatten().map(|(_, value)| match value {
        Value::Null => String::new(),
        Value::String(text) => cell(text),
        Value::Number(number) => number.to_string(),
        other => cell(&other.to_string()),
    });
    format!("{}\r\n", values.collect::<Vec<_>>().join(","))
}

/// A text as a cell, in quotes where it needs them. What a spreadsheet would take for a formula gets an apostrophe before it.
fn cell(text: &str) -> String {
    let begins = text.trim_start_matches([' ', '\u{a0}', '\u{3000}']);
    let formula = begins.starts_with(['=', '+', '-', '@', '\t', '\r', '\n', '＝', '＋', '－', '＠']);
    let text = if formula { format!("'{text}") } else { text.to_owned() };
    match text.contains([',', ';', '"', '\'', '\r', '\n', '\t']) {
        true => format!("\"{}\"", text.replace('"', "\"\"")),
        false => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labelled(label: &str) -> Value {
        Value::from_iter([("label", label)])
    }

    #[test]
    fn a_row_is_a_line_and_no_formula() {
        let row = r#"{"id":7,"amount_sat":null,"label":"a, \"b\"","channels":[]}"#;
        let row: Value = serde_json::from_str(row).unwrap();
        assert_eq!(head(&row), "id,amount_sat,label,channels\r\n");
        assert_eq!(line(&row), "7,,\"a, \"\"b\"\"\",[]\r\n");
        for (text, safe) in [
            ("=1+1", "\"'=1+1\""),
            ("+1", "\"'+1\""),
            ("-1", "\"'-1\""),
            ("@SUM(A1)", "\"'@SUM(A1)\""),
            ("  =1", "\"'  =1\""),
            ("\t=1", "\"'\t=1\""),
            ("＝1", "\"'＝1\""),
            ("1-1", "1-1"),
        ] {
            assert_eq!(line(&labelled(text)), format!("{safe}\r\n"), "{text:?}");
        }
    }
}
