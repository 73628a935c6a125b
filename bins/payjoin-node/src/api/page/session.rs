//! Browsers that are logged in: in memory, so that a restart ends all of them.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bitcoin::hashes::{Hash as _, sha256};
use bitcoin::hex::DisplayHex as _;
use bitcoin::secp256k1::rand::random;
use payjoin_core::Timestamp;
use payjoin_io::Head;

/// How long a browser is logged in.
const SECONDS: u64 = 12 * 3_600;
/// Beyond it the one that ends first makes room.
const MOST: usize = 100;
/// The cookie's name.
const COOKIE: &str = "payjoind";

/// A browser that is logged in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Session {
    /// The token that it was given, by its hash.
    pub(super) token: [u8; 32],
    /// What each form of it carries: nobody else's form does.
    pub(super) form: String,
    until: Timestamp,
}

/// All of them, by the hash of their cookies.
#[derive(Debug, Default)]
pub(super) struct Sessions(Mutex<HashMap<[u8; 32], Session>>);

impl Sessions {
    /// Logs a browser in; what its cookie holds.
    pub(super) fn begin(&self, token: [u8; 32], now: Timestamp) -> String {
        let (cookie, form) = (secret(), secret());
        let mut sessions = self.lock();
        sessions.retain(|_, session| session.until > now);
        if sessions.len() >= MOST
            && let Some(first) = sessions.iter().min_by_key(|(_, one)| one.until).map(|(name, _)| *name)
        {
            sessions.remove(&first);
        }
        sessions.insert(hash(&cookie), Session { token, form, until: now.plus(SECONDS) });
        cookie
    }

    /// The session of whoever sent this.
    pub(super) fn of(&self, head: &Head, now: Timestamp) -> Option<Session> {
        let name = hash(cookie(head)?);
        self.lock().get(&name).filter(|session| session.until > now).cloned()
    }

    pub(super) fn end(&self, head: &Head) {
        if let Some(cookie) = cookie(head) {
            self.lock().remove(&hash(cookie));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<[u8; 32], Session>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The header that gives a browser its cookie, or takes it away where there is none.
pub(super) fn set_cookie(cookie: Option<&str>, is_tls: bool) -> String {
    let secure = if is_tls { "; Secure" } else { "" };
    let age = if cookie.is_some() { SECONDS } else { 0 };
    let value = cookie.unwrap_or_default();
    format!("{COOKIE}={value}; Path=/; Max-Age={age}; HttpOnly; SameSite=Strict{secure}")
}

fn cookie(head: &Head) -> Option<&str> {
    let cookies = head.header("cookie")?.split(';');
    cookies.filter_map(|one| one.trim().split_once('=')).find(|(name, _)| *name == COOKIE).map(|(_, value)| value)
}

/// 256 random bits.
pub(super) fn secret() -> String {
    random::<[u8; 32]>().to_lower_hex_string()
}

fn hash(text: &str) -> [u8; 32] {
    sha256::Hash::hash(text.as_bytes()).to_byte_array()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(cookies: &str) -> Head {
        Head { headers: vec![("cookie".to_owned(), cookies.to_owned())], ..Head::default() }
    }

    #[test]
    fn a_browser_is_known_by_its_cookie_until_it_ends() {
        let (sessions, now) = (Sessions::default(), Timestamp(1_000));
        let cookie = sessions.begin([7; 32], now);
        let mine = with(&format!("a=b; payjoind={cookie}; c=d"));
        assert_eq!(sessions.of(&mine, now).map(|session| session.token), Some([7; 32]));
        assert_eq!(sessions.of(&mine, now.plus(SECONDS)), None);
        for other in ["", "payjoind=", "payjoind=0", &format!("other={cookie}")] {
            assert_eq!(sessions.of(&with(other), now), None, "{other}");
        }
        sessions.end(&mine);
        assert_eq!(sessions.of(&mine, now), None);
    }

    #[test]
    fn no_more_browsers_are_known_than_there_is_room() {
        let (sessions, now) = (Sessions::default(), Timestamp(1_000));
        let first = sessions.begin([1; 32], now);
        (0..MOST as u64).for_each(|n| drop(sessions.begin([2; 32], Timestamp(2_000 + n))));
        assert_eq!(sessions.lock().len(), MOST);
        assert_eq!(sessions.of(&with(&format!("payjoind={first}")), now), None);
    }

    #[test]
    fn a_cookie_is_for_this_page_alone() {
        let set = set_cookie(Some("x"), true);
        for part in ["payjoind=x; ", "HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(set.contains(part), "{set}");
        }
        assert!(set_cookie(None, false).contains("Max-Age=0"));
    }
}
