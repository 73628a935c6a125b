//! Whether a browser means us: the host that it asks, and the page that it comes from. And what it may do with what it gets.

use payjoin_io::{Head, Told};

/// The hosts by which browsers may ask, with their ports.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    hosts: Vec<String>,
    pub(super) is_tls: bool,
}

/// What a browser loads and sends: our style, our forms, and nothing else. There is no script.
const CONTENT: &str = "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

impl Guard {
    pub(super) fn new(hosts: Vec<String>, is_tls: bool) -> Self {
        Self { hosts, is_tls }
    }

    /// Another name that leads to our address is somebody else's (DNS rebinding).
    pub(super) fn is_ours(&self, head: &Head) -> bool {
        head.header("host").is_some_and(|host| self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host)))
    }

    /// What changes something comes from a page of ours.
    pub(super) fn is_from_us(&self, head: &Head) -> bool {
        let scheme = if self.is_tls { "https://" } else { "http://" };
        let ours = |origin: &str| {
            let host = origin.strip_prefix(scheme);
            host.is_some_and(|host| head.header("host") == Some(host))
        };
        self.is_ours(head) && head.header("origin").is_some_and(ours)
    }
}

/// A page.
pub(super) fn html(status: u16, body: String) -> Told {
    let headers = vec![
        ("content-type", "text/html; charset=utf-8".to_owned()),
        ("content-security-policy", CONTENT.to_owned()),
        ("referrer-policy", "same-origin".to_owned()),
        ("x-content-type-options", "nosniff".to_owned()),
        ("cross-origin-opener-policy", "same-origin".to_owned()),
        ("cross-origin-resource-policy", "same-origin".to_owned()),
        ("cache-control", "no-store".to_owned()),
    ];
    Told { status, headers, body: body.into_bytes() }
}

/// To another page.
pub(super) fn see(path: &str) -> Told {
    Told { headers: vec![("location", path.to_owned()), ("cache-control", "no-store".to_owned())], ..Told::bare(303) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_browser_that_comes_from_elsewhere_or_asks_for_another_host_is_not_ours() {
        let guard = Guard::new(vec!["127.0.0.1:8787".to_owned(), "localhost:8787".to_owned()], false);
        for (host, origin, ours, from_us) in [
            ("127.0.0.1:8787", Some("http://127.0.0.1:8787"), true, true),
            ("LOCALHOST:8787", Some("http://LOCALHOST:8787"), true, true),
            ("127.0.0.1:8787", Some("http://localhost:8787"), true, false),
            ("127.0.0.1:8787", Some("https://127.0.0.1:8787"), true, false),
            ("127.0.0.1:8787", Some("null"), true, false),
            ("127.0.0.1:8787", None, true, false),
            ("evil.example:8787", Some("http://evil.example:8787"), false, false),
            ("127.0.0.1", Some("http://127.0.0.1"), false, false),
        ] {
            let mut headers = vec![("host".to_owned(), host.to_owned())];
            headers.extend(origin.map(|origin| ("origin".to_owned(), origin.to_owned())));
            let head = Head { headers, ..Head::default() };
            assert_eq!((guard.is_ours(&head), guard.is_from_us(&head)), (ours, from_us), "{host} {origin:?}");
        }
        assert!(!guard.is_ours(&Head::default()));
    }
}
