//! The ways that payers can take to us.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::is_onion;

/// How a payer reaches us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// A mailbox at a BIP 77 directory, behind OHTTP relays.
    Directory,
    /// Our own server, BIP 78.
    Https,
    /// Our own onion service, BIP 78.
    Onion,
}

/// What to do where a directory is needed and none is configured.
pub(crate) const NO_DIRECTORY: &str =
    "no directory: set `directories` and `ohttp_relays` in [payjoin] and restart";

/// What is configured.
pub(crate) struct Ways {
    directory: bool,
    ours: Vec<Endpoint>,
}

/// Where payers reach our server.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(crate) via: Via,
    /// Without the invoice.
    pub(crate) url: String,
}

/// The way of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way<'a> {
    /// A mailbox at a directory.
    Directory,
    /// Our server.
    Ours(&'a Endpoint),
}

impl Ways {
    /// `public` is what the operator put before our server, a Tor daemon perhaps; `onion` is our own onion service.
    pub(crate) fn new(directory: bool, public: Option<String>, onion: Option<String>) -> Self {
        let endpoint = |url: String| {
            let via = if is_onion(&url) { Via::Onion } else { Via::Https };
            Endpoint { via, url }
        };
        Self { directory, ours: [public, onion].into_iter().flatten().map(endpoint).collect() }
    }

    /// What the operator chose, or the first that is configured. The error says what to configure.
    pub(crate) fn choose(&self, chosen: Option<Via>) -> Result<Way<'_>, &'static str> {
        let way = |via| match via {
            Via::Directory => self.directory.then_some(Way::Directory),
            via => self.ours(via).map(Way::Ours),
        };
        let wanted = chosen.map_or(vec![Via::Directory, Via::Https, Via::Onion], |via| vec![via]);
        wanted.into_iter().find_map(way).ok_or(match chosen {
            Some(Via::Directory) => NO_DIRECTORY,
            Some(Via::Https) => {
                "no endpoint: set `public_endpoint` and `listen` or `plain_listen` in [http] and restart"
            }
            Some(Via::Onion) => "no onion service: set `enabled = true` in [tor] and restart",
            None => {
                "payers have no way to reach us: set `directories` and `ohttp_relays` in [payjoin], or `enabled` in \
                 [tor], or `public_endpoint` and `listen` or `plain_listen` in [http], and restart"
            }
        })
    }

    /// Where the code leads instead when no directory answers: nowhere when the operator chose.
    pub(crate) fn instead(&self, chosen: Option<Via>) -> Option<&Endpoint> {
        let free = chosen.is_none();
        free.then(|| self.ours(Via::Https).or_else(|| self.ours(Via::Onion))).flatten()
    }

    fn ours(&self, via: Via) -> Option<&Endpoint> {
        self.ours.iter().find(|endpoint| endpoint.via == via)
    }

    /// Our server's other endpoints, when the code has one of them. A session at a directory stands alone.
    pub(crate) fn besides<'a>(&'a self, way: Way<'a>) -> impl Iterator<Item = &'a Endpoint> {
        let others = match way {
            Way::Directory => None,
            Way::Ours(used) => Some(self.ours.iter().filter(move |endpoint| *endpoint != used)),
        };
        others.into_iter().flatten()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WEB: &str = "https://pay.example";
    const ONION: &str = "http://a.onion";
    const BEHIND_TOR: &str = "http://B.onion:8080/payjoin";

    fn ways(directory: bool, public: Option<&str>, onion: Option<&str>) -> Ways {
        Ways::new(directory, public.map(str::to_owned), onion.map(str::to_owned))
    }

    /// The endpoint of the code, `None` for a directory, and the other codes' ways and endpoints.
    fn code(ways: &Ways, via: Option<Via>) -> (Option<&str>, Vec<(Via, &str)>) {
        let way = ways.choose(via).unwrap();
        let others = ways.besides(way).map(|other| (other.via, other.url.as_str()));
        let endpoint = match way {
            Way::Directory => None,
            Way::Ours(endpoint) => Some(endpoint.url.as_str()),
        };
        (endpoint, others.collect())
    }

    #[test]
    fn a_directory_comes_first_then_the_web_then_the_onion_service() {
        assert_eq!(code(&ways(true, Some(WEB), Some(ONION)), None), (None, vec![]));
        assert_eq!(code(&ways(false, Some(WEB), None), None), (Some(WEB), vec![]));
        assert_eq!(code(&ways(false, None, Some(ONION)), None), (Some(ONION), vec![]));
    }

    #[test]
    fn a_directory_that_does_not_answer_gives_way_unless_it_was_chosen() {
        let instead = |public, onion, via| {
            let ways = ways(true, public, onion);
            ways.instead(via).map(|endpoint| endpoint.url.clone())
        };
        assert_eq!(instead(Some(WEB), Some(ONION), None).as_deref(), Some(WEB));
        assert_eq!(instead(None, Some(ONION), None).as_deref(), Some(ONION));
        assert_eq!(instead(None, None, None), None);
        assert_eq!(instead(Some(WEB), Some(ONION), Some(Via::Directory)), None);
    }

    #[test]
    fn where_our_server_has_two_endpoints_the_other_is_offered_too() {
        let both = ways(true, Some(WEB), Some(ONION));
        assert_eq!(code(&both, Some(Via::Onion)), (Some(ONION), vec![(Via::Https, WEB)]));
        assert_eq!(code(&both, Some(Via::Https)), (Some(WEB), vec![(Via::Onion, ONION)]));
        assert_eq!(code(&ways(false, Some(WEB), Some(ONION)), None), (Some(WEB), vec![(Via::Onion, ONION)]));
    }

    #[test]
    fn a_tor_daemon_of_the_operators_is_a_way_by_onion() {
        let behind_tor = ways(false, Some(BEHIND_TOR), None);
        assert_eq!(code(&behind_tor, Some(Via::Onion)), (Some(BEHIND_TOR), vec![]));
        assert!(behind_tor.choose(Some(Via::Https)).is_err());
        let two = ways(false, Some(BEHIND_TOR), Some(ONION));
        assert_eq!(code(&two, None), (Some(BEHIND_TOR), vec![(Via::Onion, ONION)]));
    }

    #[test]
    fn a_way_that_is_not_configured_is_refused_with_what_to_set() {
        for (via, setting) in [
            (Some(Via::Directory), "`directories`"),
            (Some(Via::Https), "`public_endpoint`"),
            (Some(Via::Onion), "[tor]"),
            (None, "`directories`"),
        ] {
            let reason = ways(false, None, None).choose(via).unwrap_err();
            assert!(reason.contains(setting), "{via:?}: {reason}");
        }
    }
}
