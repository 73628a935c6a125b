//! A home with this and that in it, and the file that comes of it.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;
use crate::settings::Settings;

struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    fn file(&self, name: &str, text: &str) {
        let file = self.0.path().join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[cfg(feature = "lnd")]
    fn with_lnd(self) -> Self {
        self.file(".lnd/lnd.conf", "[Application Options]\nrestlisten=0.0.0.0:8181\n");
        self.file(".lnd/tls.cert", "a certificate");
        self.file(".lnd/data/chain/bitcoin/signet/admin.macaroon", "a macaroon");
        self
    }

    fn with_bitcoind(self, network: &str) -> Self {
        self.file(&format!(".bitcoin/{network}/.cookie"), "a:b");
        self
    }

    fn init(&self, wishes: Wishes) -> Result<Init, InitError> {
        Init::new(&self.0.path().join("payjoind"), self.0.path(), wishes)
    }

    /// Written with the first choice of everything that is not wished for, and read back.
    fn settings(&self, wishes: Wishes) -> Settings {
        let written = self.init(wishes).unwrap().write().unwrap();
        for (path, mode) in [(written.file.as_path(), 0o600), (written.file.parent().unwrap(), 0o700)] {
            assert_eq!(fs::metadata(path).unwrap().permissions().mode() & 0o777, mode);
        }
        Settings::load(written.file.parent().unwrap()).unwrap()
    }
}

#[test]
fn what_is_here_is_proposed_and_the_file_runs() {
    let bare = Home::new().settings(Wishes::default());
    assert_eq!((bare.network, bare.lightning.backend), (Network::Signet, Kind::Embedded));

    let home = Home::new().with_bitcoind("regtest");
    let beside = home.settings(Wishes::default());
    assert_eq!((beside.network, beside.lightning.backend), (Network::Regtest, Kind::Embedded));
    assert_eq!(beside.bitcoind.cookie, Some(home.0.path().join(".bitcoin/regtest/.cookie")));
}

#[cfg(feature = "lnd")]
#[test]
fn an_lnd_is_found_by_its_files() {
    let home = Home::new().with_lnd().with_bitcoind("signet");
    let lnd = home.settings(Wishes::default());
    assert_eq!((lnd.network, lnd.lightning.backend), (Network::Signet, Kind::Lnd));
    assert_eq!(lnd.lnd.address, "127.0.0.1:8181");
    assert!(lnd.lnd.macaroon.unwrap().ends_with("signet/admin.macaroon"));
    let home = Home::new().with_lnd();
    home.file(".lnd/payjoind.macaroon", "a small one");
    assert!(home.settings(Wishes::default()).lnd.macaroon.unwrap().ends_with(".lnd/payjoind.macaroon"));
}

#[cfg(feature = "cln")]
#[test]
fn a_core_lightning_is_found_where_somebody_listens() {
    let home = Home::new().with_bitcoind("regtest");
    let folder = home.0.path().join(".lightning/regtest");
    fs::create_dir_all(&folder).unwrap();
    let listener = std::os::unix::net::UnixListener::bind(folder.join("lightning-rpc")).unwrap();
    let wishes = || Wishes {
        directory: Some("https://directory.example".to_owned()),
        relay: Some("https://relay.example".to_owned()),
        ..Wishes::default()
    };
    let question = home.init(wishes()).unwrap().question().unwrap();
    assert!(question.text.contains("a bitcoind and a Core Lightning on regtest"), "{question:?}");
    let cln = home.settings(wishes());
    assert_eq!((cln.network, cln.lightning.backend), (Network::Regtest, Kind::Cln));
    assert_eq!(cln.cln.socket, Some(folder.join("lightning-rpc")));
    assert_eq!(cln.payjoin.directories, ["https://directory.example"]);
    // Who has ended is not proposed.
    drop(listener);
    let other = Home(home.0);
    fs::remove_file(other.0.path().join("payjoind").join(FILE)).unwrap();
    assert_eq!(other.settings(Wishes::default()).lightning.backend, Kind::Embedded);
}

#[test]
fn the_operator_is_asked_what_he_has_not_said_and_may_say_otherwise() {
    let home = Home::new().with_bitcoind("signet");
    let mut init = home.init(Wishes::default()).unwrap();
    let mut asked = Vec::new();
    for said in ["mainnet", "regtest", "embedded", "https://directory.example", "https://relay.example"] {
        asked.push(init.question().unwrap().choices);
        match init.answer(said) {
            Err(error) => assert_eq!(said, "mainnet", "{error}"),
            Ok(()) => assert_ne!(said, "mainnet"),
        }
    }
    assert_eq!(init.question(), None);
    assert_eq!(asked[0].first().map(String::as_str), Some("signet"), "it is here");
    assert_eq!(asked[2].first().map(String::as_str), Some("embedded"));
    init.write().unwrap();
    let settings = Settings::load(&home.0.path().join("payjoind")).unwrap();
    assert_eq!((settings.network, settings.payjoin.ohttp_relays.len()), (Network::Regtest, 1));
}

#[test]
fn settings_that_are_there_are_left_as_they_are_and_what_cannot_work_is_not_written() {
    let home = Home::new();
    home.file("payjoind/payjoind.toml", "mine");
    assert!(matches!(home.init(Wishes::default()), Err(InitError::Exists(_))));
    let home = Home::new();
    let wishes =
        Wishes { directory: Some("nonsense".to_owned()), relay: Some("x".to_owned()), ..Wishes::default() };
    let refused = home.init(wishes).unwrap().write().unwrap_err();
    assert!(matches!(refused, InitError::Settings(_)), "{refused}");
    assert!(!home.0.path().join("payjoind").exists());
}
