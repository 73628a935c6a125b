//! What a form holds, as browsers send it.

/// Names and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads `application/x-www-form-urlencoded`.
    pub(super) fn read(body: &[u8]) -> Self {
        let body = String::from_utf8_lossy(body);
        let fields = body.split('&').filter(|field| !field.is_empty());
        let fields = fields.map(|field| field.split_once('=').unwrap_or((field, "")));
        Self(fields.map(|(name, value)| (decoded(name), decoded(value))).collect())
    }

    /// The first value of this name, without spaces around it; `None` where it is empty.
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value.trim()).filter(|value| !value.is_empty())
    }

    /// Whether a box of this name is ticked.
    pub(super) fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }
}

fn decoded(text: &str) -> String {
    let (mut bytes, mut rest) = (Vec::with_capacity(text.len()), text.as_bytes());
    while let Some((first, after)) = rest.split_first() {
        let (byte, left) = match (first, escaped(after)) {
            (b'%', Some(byte)) => (byte, after.get(2..).unwrap_or_default()),
            (b'+', _) => (b' ', after),
            (plain, _) => (*plain, after),
        };
        bytes.push(byte);
        rest = left;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What two hexadecimal digits stand for.
fn escaped(digits: &[u8]) -> Option<u8> {
    let digits = digits.get(..2).filter(|digits| digits.iter().all(u8::is_ascii_hexdigit))?;
    u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_as_browsers_send_it() {
        let form = Form::read(b"a=1+2&b=%3Cb%3E%26&c=&=x&d&e=%zz%4&f=%F0%9F");
        assert_eq!(form.text("a"), Some("1 2"));
        assert_eq!(form.text("b"), Some("<b>&"));
        assert_eq!((form.text("c"), form.text("d"), form.text("z")), (None, None, None));
        assert_eq!(form.text("e"), Some("%zz%4"));
        assert_eq!(form.text("f"), Some("\u{fffd}"));
        assert_eq!(Form::read(b""), Form::default());
    }
}
