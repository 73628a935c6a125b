use super::*;

/// Reads a configuration file, with the folder it lies in.
fn load(text: &str) -> (tempfile::TempDir, Result<Config, ConfigError>) {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("payjoind.toml"), text).unwrap();
    let config = Config::load(folder.path(), &RunArgs::default());
    (folder, config)
}

#[test]
fn directories_and_relays_are_read_and_a_directory_must_be_a_url() {
    let good = "[payjoin]\ndirectories = ['https://a.example']\nohttp_relays = ['https://b.example']";
    let payjoin = load(good).1.unwrap().payjoin;
    assert_eq!(payjoin.directories, ["https://a.example"]);
    assert_eq!((payjoin.ohttp_relays, payjoin.session_hours), (vec!["https://b.example".into()], 24));
    let bad = load("[payjoin]\ndirectories = ['a.example']").1;
    assert!(matches!(bad, Err(ConfigError::Directory(url)) if url == "a.example"));
    assert!(matches!(load("[payjoin]\nrelays = []").1, Err(ConfigError::Parse { .. })));
}

#[test]
fn a_number_that_stops_something_from_working_is_refused() {
    for (section, name, least, most) in [
        ("lightning", "poll_ms", 10, 60_000),
        ("lightning", "min_depth", 1, 144),
        ("payjoin", "session_hours", 1, 8784),
        ("policy", "max_fee_rate", 1, 25_000),
        ("policy", "channel_seconds", 1, 3600),
        ("policy", "exchange_seconds", 10, 3600),
        ("policy", "fallback_seconds", 1, 2_678_400),
        ("policy", "burial", 1, 2016),
    ] {
        let with = |value: u64| load(&format!("[{section}]\n{name} = {value}")).1;
        for good in [least, most] {
            with(good).unwrap();
        }
        for bad in [least - 1, most + 1] {
            let refusal = with(bad).unwrap_err().to_string();
            let told = format!("[{section}] `{name}` must be from {least} to {most}, not {bad}");
            assert_eq!(refusal, told);
        }
    }
}

#[test]
fn a_directory_needs_a_relay_and_a_proxy_needs_a_port() {
    let directory = load("[payjoin]\ndirectories = ['https://a.example']").1;
    assert!(matches!(directory, Err(ConfigError::NoRelay)));
    for bad in ["nonsense", "127.0.0.1", ":9050", "127.0.0.1:tor"] {
        let refusal = load(&format!("[payjoin]\nsocks = '{bad}'")).1;
        assert!(matches!(&refusal, Err(ConfigError::Socks(socks)) if socks == bad), "{refusal:?}");
    }
    load("[payjoin]\nsocks = '127.0.0.1:9050'").1.unwrap();
}

#[test]
fn the_settings_in_the_help_of_run_can_be_used() {
    let help = crate::help::RUN_HELP;
    let file: String =
        help.lines().filter_map(|line| line.strip_prefix("  ")).map(|l| format!("{l}\n")).collect();
    let file = file.split("payjoind --datadir").next().unwrap();
    let config = load(file).1.unwrap();
    assert_eq!(config.payjoin.directories, ["https://directory.example"]);
    assert!(config.tor.enabled && config.policy.fallback_seconds == 600);
}

#[test]
fn relative_paths_are_below_the_datadir() {
    let text = "[payjoin]\nroot_certificate = 'root.der'\n[tor]\ncache_dir = '/var/cache/tor'\n\
        [http]\nplain_listen = 'unix:payers.sock'\npublic_endpoint = 'https://pay.example'";
    let (folder, config) = load(text);
    let (config, below) = (config.unwrap(), |path| folder.path().join(path));
    assert_eq!(config.payjoin.root_certificate, Some(below("root.der")));
    assert_eq!(config.tor.state_dir, below("tor/state"));
    assert_eq!(config.tor.cache_dir, Path::new("/var/cache/tor"));
    assert_eq!(config.http.plain_listen, Some(PlainListen::Unix(below("payers.sock"))));
}

#[test]
fn plain_listen_is_for_this_machine() {
    let listen =
        |at: &str| load(&format!("[http]\npublic_endpoint = 'https://pay.example'\nplain_listen = '{at}'")).1;
    for good in ["127.0.0.1:8080", "[::1]:8080", "unix:/run/payjoin.sock"] {
        assert_eq!(listen(good).unwrap().http.plain_listen.unwrap().to_string(), good);
    }
    for open in ["0.0.0.0:8080", "192.0.2.1:8080", "[::]:8080"] {
        assert!(matches!(listen(open), Err(ConfigError::Http(_))), "{open}");
    }
    for nonsense in ["localhost", "unix:", "/run/payjoin.sock"] {
        assert!(matches!(listen(nonsense), Err(ConfigError::Parse { .. })), "{nonsense}");
    }
}

#[test]
fn a_public_endpoint_is_for_payjoin_and_somebody_answers_there() {
    let at = |url: &str| load(&format!("[http]\npublic_endpoint = '{url}'\nplain_listen = '127.0.0.1:80'")).1;
    for good in ["https://pay.example", "http://a.onion", "http://A.ONION:8080/payjoin"] {
        assert!(at(good).is_ok(), "{good}");
    }
    for bad in ["pay.example", "http://pay.example", "http://a.onion.example", "http://pay.example/a.onion"] {
        assert!(matches!(at(bad), Err(ConfigError::Http(_))), "{bad}");
    }
    let nobody = load("[http]\npublic_endpoint = 'https://pay.example'").1;
    assert!(matches!(nobody, Err(ConfigError::Http(_))));
}

#[test]
fn tor_alone_goes_with_nothing_that_shows_our_address() {
    let tls = "certificate = 'c'\nkey = 'k'\npublic_endpoint = 'https://pay.example'";
    let only = |rest: &str| load(&format!("[tor]\nenabled = true\nonly = true\n{rest}")).1;
    for good in [
        "",
        "[lightning]\nlisten = '127.0.0.1:9735'",
        &format!("[http]\nlisten = '127.0.0.1:443'\n{tls}"),
        "[http]\nplain_listen = 'unix:s'\npublic_endpoint = 'https://pay.example'",
        "[payjoin]\ndirectories = ['https://directory.example']\nohttp_relays = ['https://relay.example']",
        "[bitcoind]\nurl = 'http://user:word@127.0.0.1:18443/wallet'",
        "[bitcoind]\nurl = 'http://[::1]:18443'",
    ] {
        assert!(only(good).is_ok(), "{good}");
    }
    for bad in [
        "[lightning]\nlisten = '0.0.0.0:9735'",
        &format!("[http]\nlisten = '192.0.2.1:443'\n{tls}"),
        "[payjoin]\nsocks = '127.0.0.1:9050'",
        "[bitcoind]\nurl = 'http://192.0.2.1:8332'",
        "[bitcoind]\nurl = 'http://localhost:8332'",
        "[bitcoind]\nurl = 'http://127.0.0.1:word@bitcoind.example:8332'",
    ] {
        assert!(matches!(only(bad), Err(ConfigError::Tor(_))), "{bad}");
        assert!(load(bad).1.is_ok(), "{bad}");
    }
    assert!(matches!(load("[tor]\nonly = true").1, Err(ConfigError::Tor(_))));
}

#[test]
fn the_help_of_run_names_every_setting() {
    // Those of Tor are in docs/tor.md.
    for part in ["bitcoind", "lightning", "http", "payjoin", "policy"] {
        let refusal = load(&format!("[{part}]\nnonsense = 1")).1.unwrap_err().to_string();
        let (_, names) = refusal.split_once("expected one of").unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(crate::help::RUN_HELP.contains(name), "[{part}] {name}");
        }
    }
}
