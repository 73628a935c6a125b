//! Addresses in settings, read strictly: what a browser would mend is a mistake here.

/// A URL, as far as settings say something about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Url<'a> {
    pub(super) scheme: &'a str,
    /// Without the brackets of an IPv6 address.
    pub(super) host: &'a str,
}

/// Reads `SCHEME://HOST[:PORT][/PATH]`. The error goes on from the address: what is wrong with it, and what to do.
pub(super) fn url(text: &str) -> Result<Url<'_>, &'static str> {
    // First: what holds a password is shown to nobody.
    if has_user(text) {
        return Err("holds a user or a password: remove what stands before the @");
    }
    if text.chars().any(|letter| !letter.is_ascii_graphic() || "\\\"<>^`{|}".contains(letter)) {
        return Err("holds a letter or a space that no URL has: write names with other letters as xn--…");
    }
    let (scheme, rest) = text.split_once("://").ok_or("is no URL: begin it with https://")?;
    if rest.contains(['?', '#']) {
        return Err("has a query or a fragment: remove the ? or # and what follows");
    }
    let authority = rest.split('/').next().unwrap_or_default();
    let (host, _) = host_and_port(authority)?;
    Ok(Url { scheme, host })
}

/// Reads `HOST:PORT`.
pub(super) fn host_with_port(text: &str) -> Result<(&str, u16), &'static str> {
    if text.contains("://") {
        return Err("begins with a scheme: remove it, only HOST:PORT is wanted");
    }
    if has_user(text) {
        return Err("holds a user or a password: remove what stands before the @");
    }
    match host_and_port(text)? {
        (host, Some(port)) => Ok((host, port)),
        (_, None) => Err("names no port: add :PORT"),
    }
}

fn has_user(text: &str) -> bool {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    rest.split(['/', '?', '#']).next().is_some_and(|authority| authority.contains('@'))
}

fn host_and_port(authority: &str) -> Result<(&str, Option<u16>), &'static str> {
    const HOST: &str = "has a host that is none: use a name, an IP address, or an IPv6 address in [brackets]";
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (host, rest) = rest.split_once(']').ok_or(HOST)?;
            host.parse::<std::net::Ipv6Addr>().map_err(|_| HOST)?;
            (host, if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or(HOST)?) })
        }
        None => match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        },
    };
    if host.is_empty() {
        return Err("names no host: it must name a machine");
    }
    let is_v6 = authority.starts_with('[');
    let in_name = |letter: char| letter.is_ascii_alphanumeric() || "-._".contains(letter);
    if !is_v6 && (!host.chars().all(in_name) || host.starts_with('.') || host.contains("..")) {
        return Err(HOST);
    }
    let number = |port: &str| port.parse::<u16>().ok().filter(|port| *port > 0);
    match port {
        None => Ok((host, None)),
        Some(port) if port.bytes().all(|digit| digit.is_ascii_digit()) && number(port).is_some() => {
            Ok((host, number(port)))
        }
        Some(_) => Err("has a port that is none: use a number from 1 to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_stands_there_or_refused_with_what_to_do() {
        for (text, expected) in [
            ("https://a.example", Ok(("https", "a.example"))),
            ("http://[::1]:8080/dir", Ok(("http", "::1"))),
            ("https://xn--bcher-kva.example:443/", Ok(("https", "xn--bcher-kva.example"))),
            ("a.example", Err("is no URL")),
            ("https://user:word@a.example", Err("user or a password")),
            ("https://a.example?x=1", Err("query or a fragment")),
            ("https://a.example/#here", Err("query or a fragment")),
            ("https://", Err("names no host")),
            ("https:///path", Err("names no host")),
            ("https://:443", Err("names no host")),
            ("https://a.example:0", Err("port that is none")),
            ("https://a.example:65536", Err("port that is none")),
            ("https://a.example:+1", Err("port that is none")),
            ("https://a.example:", Err("port that is none")),
            ("https://::1/", Err("names no host")),
            ("https://[::1", Err("host that is none")),
            ("https://[pay]/", Err("host that is none")),
            ("https://a..example", Err("host that is none")),
            ("https://bücher.example", Err("letter or a space")),
            ("https://a.example\\x", Err("letter or a space")),
            (" https://a.example", Err("letter or a space")),
        ] {
            match (url(text), expected) {
                (Ok(Url { scheme, host }), Ok(expected)) => assert_eq!((scheme, host), expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{text}: {why}"),
                (found, _) => panic!("{text}: {found:?}"),
            }
        }
    }

    #[test]
    fn a_host_with_its_port_has_both_and_nothing_else() {
        assert_eq!(host_with_port("127.0.0.1:9050"), Ok(("127.0.0.1", 9050)));
        assert_eq!(host_with_port("[::1]:9050"), Ok(("::1", 9050)));
        for (text, part) in [
            ("127.0.0.1", "names no port"),
            (":9050", "names no host"),
            ("127.0.0.1:tor", "port that is none"),
            ("socks5://127.0.0.1:9050", "scheme"),
            ("me:word@127.0.0.1:9050", "user or a password"),
            ("nonsense/9050", "host that is none"),
        ] {
            let why = host_with_port(text).unwrap_err();
            assert!(why.contains(part), "{text}: {why}");
        }
    }
}
