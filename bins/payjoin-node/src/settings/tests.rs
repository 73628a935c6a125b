use std::path::Path;

use super::*;

/// Where the settings lie that the tests read.
const FOLDER: &str = "/node";

#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error(transparent)]
    Parse(#[from] toml::de::Error),
    #[error(transparent)]
    Use(#[from] SettingsError),
}

/// What a start makes of these settings, or why it refuses them.
fn load(text: &str) -> Result<Settings, Refusal> {
    let mut settings = Settings { datadir: FOLDER.into(), ..toml::from_str(text)? };
    settings.resolve();
    settings.check()?;
    Ok(settings)
}

#[test]
fn directories_and_relays_are_read_and_a_directory_must_be_a_url() {
    let good = "[payjoin]\ndirectories = ['https://a.example']\nohttp_relays = ['https://b.example']";
    let payjoin = load(good).unwrap().payjoin;
    assert_eq!(payjoin.directories, ["https://a.example"]);
    assert_eq!((payjoin.ohttp_relays, payjoin.code_hours), (vec!["https://b.example".into()], 24));
    let bad = load("[payjoin]\ndirectories = ['a.example']");
    let bad = bad.unwrap_err().to_string();
    assert_eq!(bad, "[payjoin] `directories` \"a.example\" is no URL: begin it with https://");
    assert!(matches!(load("[payjoin]\nrelays = []"), Err(Refusal::Parse(_))));
}

#[test]
fn a_number_that_stops_something_from_working_is_refused() {
    for (section, name, least, most) in [
        ("bitcoind", "block_poll_ms", 10_u64, 60_000),
        ("bitcoind", "mempool_poll_ms", 10, 60_000),
        ("lightning", "min_depth", 1, 144),
        ("lightning", "accept_seconds", 1, 3600),
        ("lightning", "sign_seconds", 1, 3600),
        ("payjoin", "code_hours", 1, 8784),
        ("payjoin", "patience_hours", 1, 8784),
        ("policy", "max_fee_rate", 1, 25_000),
        ("policy", "channel_seconds", 1, 3600),
        ("policy", "exchange_seconds", 10, 3600),
        ("policy", "fallback_seconds", 1, 2_678_400),
        ("policy", "burial", 1, 2016),
        ("fees", "defend", 0, 100),
        ("store", "keep_days", 1, 36_500),
    ] {
        let with = |value: u64| load(&format!("[{section}]\n{name} = {value}"));
        for good in [least, most] {
            with(good).unwrap();
        }
        for bad in least.checked_sub(1).into_iter().chain([most + 1]) {
            let refusal = with(bad).unwrap_err().to_string();
            let told = format!("[{section}] `{name}` must be from {least} to {most}, not {bad}");
            assert_eq!(refusal, told);
        }
    }
}

#[test]
fn a_directory_needs_a_relay_and_a_proxy_needs_a_port() {
    let directory = load("[payjoin]\ndirectories = ['https://a.example']");
    assert!(matches!(directory, Err(Refusal::Use(SettingsError::NoRelay))));
    for bad in ["nonsense", "127.0.0.1", ":9050", "127.0.0.1:tor"] {
        let refusal = load(&format!("[payjoin]\nsocks = '{bad}'")).unwrap_err().to_string();
        assert!(refusal.starts_with(&format!("[payjoin] `socks` {bad:?} ")), "{refusal}");
    }
    load("[payjoin]\nsocks = '127.0.0.1:9050'").unwrap();
}

#[test]
fn relative_paths_are_below_the_datadir() {
    let text = "[payjoin]\nroot_certificate = 'root.der'\n[tor]\ncache_dir = '/var/cache/tor'\n\
        [http]\nplain_listen = 'unix:payers.sock'\npublic_endpoint = 'https://pay.example'";
    let (config, below) = (load(text).unwrap(), |path| Path::new(FOLDER).join(path));
    assert_eq!(config.payjoin.root_certificate, Some(below("root.der")));
    assert_eq!(config.tor.state_dir, below("tor/state"));
    assert_eq!(config.tor.cache_dir, Path::new("/var/cache/tor"));
    assert_eq!(config.http.plain_listen, Some(PlainListen::Unix(below("payers.sock"))));
}

#[test]
fn plain_listen_is_for_this_machine() {
    let listen =
        |at: &str| load(&format!("[http]\npublic_endpoint = 'https://pay.example'\nplain_listen = '{at}'"));
    for good in ["127.0.0.1:8080", "[::1]:8080", "unix:/run/payjoin.sock"] {
        assert_eq!(listen(good).unwrap().http.plain_listen.unwrap().to_string(), good);
    }
    for open in ["0.0.0.0:8080", "192.0.2.1:8080", "[::]:8080"] {
        assert!(matches!(listen(open), Err(Refusal::Use(SettingsError::Http(_)))), "{open}");
    }
    for nonsense in ["localhost", "unix:", "/run/payjoin.sock"] {
        assert!(matches!(listen(nonsense), Err(Refusal::Parse(_))), "{nonsense}");
    }
}

#[test]
fn a_public_endpoint_is_for_payjoin_and_somebody_answers_there() {
    let at = |url: &str| load(&format!("[http]\npublic_endpoint = '{url}'\nplain_listen = '127.0.0.1:80'"));
    for good in ["https://pay.example", "http://a.onion", "http://A.ONION:8080/payjoin"] {
        assert!(at(good).is_ok(), "{good}");
    }
    for bad in ["pay.example", "http://pay.example", "http://a.onion.example", "http://pay.example/a.onion"] {
        let refusal = at(bad).unwrap_err().to_string();
        assert!(refusal.starts_with("[http] `public_endpoint` "), "{refusal}");
    }
    let nobody = load("[http]\npublic_endpoint = 'https://pay.example'");
    assert!(matches!(nobody, Err(Refusal::Use(SettingsError::Http(_)))));
}

#[test]
fn tor_alone_goes_with_nothing_that_shows_our_address() {
    let tls = "certificate = 'c'\nkey = 'k'\npublic_endpoint = 'https://pay.example'";
    let only = |rest: &str| load(&format!("[tor]\nenabled = true\nonly = true\n{rest}"));
    for good in [
        "",
        "[lightning]\nlisten = '127.0.0.1:9735'",
        &format!("[http]\nlisten = '127.0.0.1:443'\n{tls}"),
        "[http]\nplain_listen = 'unix:s'\npublic_endpoint = 'https://pay.example'",
        "[payjoin]\ndirectories = ['https://directory.example']\nohttp_relays = ['https://relay.example']",
        "[bitcoind]\nurl = 'http://127.0.0.1:18443/wallet'",
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
    ] {
        assert!(matches!(only(bad), Err(Refusal::Use(SettingsError::Tor(_)))), "{bad}");
        assert!(load(bad).is_ok(), "{bad}");
    }
    assert!(matches!(load("[tor]\nonly = true"), Err(Refusal::Use(SettingsError::Tor(_)))));
}

#[test]
fn what_cannot_work_is_refused_with_its_name_and_what_to_do() {
    for (text, told) in [
        (
            "[bitcoind]\nurl = 'http://me:word@127.0.0.1'",
            "[bitcoind] `url` holds a user or a password: set `user`",
        ),
        ("[bitcoind]\nurl = '127.0.0.1:8332'", "[bitcoind] `url` \"127.0.0.1:8332\" is no URL"),
        ("[bitcoind]\nuser = 'me'", "[bitcoind] `user` goes with a `password`"),
        ("[bitcoind]\npassword = 'word'", "[bitcoind] `password` goes with a `user`"),
        (
            "[bitcoind]\nuser = 'me'\npassword = 'word'\ncookie = 'c'",
            "[bitcoind] `cookie` and `user` are two ways in",
        ),
        ("[bitcoind]\nuser = 'm:e'\npassword = 'word'", "[bitcoind] `user` is empty or holds a colon"),
        ("[bitcoind]\ncookie = ''", "[bitcoind] `cookie` is empty"),
        (
            "[payjoin]\nohttp_relays = ['ftp://a.example']",
            "[payjoin] `ohttp_relays` \"ftp://a.example\" begins with ftp://",
        ),
        ("[payjoin]\nsocks = 'me:word@127.0.0.1:1'", "[payjoin] `socks` holds a user or a password"),
        ("[http]\ncertificate = 'c.pem'", "[http] `certificate` and `key` are for TLS"),
        ("[api]\nlisten = '127.0.0.1:1'", "[api] `listen` is for TLS: set `certificate` and `key`"),
        ("[api]\nlisten = '192.0.2.1:1'\nplain = true", "[api] `listen` has no TLS with `plain`"),
        ("[api]\nplain = true", "[api] `listen` is not set"),
        ("[api]\nrate_per_minute = 0", "[api] `rate_per_minute` must be from 1"),
        ("[lightning]\nlisten = '127.0.0.1:0'", "[lightning] `listen` has port 0"),
        ("[lightning]\nlookahead = 0", "[lightning] `lookahead` must be from 1 to 100000, not 0"),
        ("[policy]\nmin_fee_rate = 101", "[policy] `min_fee_rate` is above `max_fee_rate`"),
        ("[tor]\nport = 0", "[tor] `port` must be from 1"),
        ("[tor]\nnickname = 'Up/..'", "[tor] `nickname` has small letters"),
        ("[tor]\ncache_dir = 'tor/state'", "[tor] `cache_dir` is `state_dir`, too"),
    ] {
        let refusal = load(text).unwrap_err().to_string();
        assert!(refusal.starts_with(told), "{text}: {refusal}");
        assert!(!refusal.contains('\n') && !refusal.contains("word@"), "{refusal}");
    }
    let twice = "[lightning]\nlisten = '127.0.0.1:9735'\n[http]\npublic_endpoint = 'https://pay.example'\n\
        plain_listen = '127.0.0.1:9735'";
    let refusal = load(twice).unwrap_err().to_string();
    assert!(refusal.contains("is 127.0.0.1:9735, as [http] `plain_listen` is"), "{refusal}");
}

#[test]
fn the_example_can_be_used_and_shows_the_defaults() {
    let example = Settings::example();
    let settings = load(&example).unwrap();
    assert_eq!(settings.payjoin.directories, ["https://directory.example"]);
    assert!(settings.tor.enabled);
    let (shown, defaults) = (settings.policy(), Policy::default());
    assert_eq!(shown, defaults);
    // What stands behind a # is what is there without it.
    let all: String = example.lines().map(|line| format!("{}\n", line.trim_start_matches("# "))).collect();
    let all = all
        .replace("plain_listen", "#")
        .replace("socks", "#")
        .replace("birthday", "#")
        .replace("several_at_once", "#")
        .replace("backend", "#");
    assert_eq!(load(&all).unwrap().policy(), defaults);
}

#[test]
fn the_example_names_every_setting() {
    // Those of Tor are in docs/tor.md.
    for part in
        ["bitcoind", "lightning", "cln", "lnd", "http", "payjoin", "policy", "fees", "store", "api", "log"]
    {
        let refusal = load(&format!("[{part}]\nnonsense = 1")).unwrap_err().to_string();
        let (_, names) = refusal.split_once("expected ").unwrap();
        for name in names.split('`').skip(1).step_by(2) {
            assert!(Settings::example().contains(name), "[{part}] {name}");
        }
    }
}

/// Rewrites the file when asked to with `PAYJOIN_WRITE_DOCS=1`.
#[test]
fn docs_settings_md_holds_the_example_and_every_range() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/settings.md");
    let mut text = format!(
        "# Settings\n\n`DATADIR/payjoind.toml`, made from `bins/payjoin-node/src/settings/table.rs`. Those of Tor are in \
         [tor.md](tor.md).\n\n```toml\n{}```\n\nNumbers that are refused outside of these bounds:\n\n| setting | \
         from | to |\n| --- | --- | --- |\n",
        Settings::example()
    );
    for section in SECTIONS {
        for entry in section.entries {
            if let Shown::Number { range: Some(range), .. } = &entry.shown {
                let (least, most) = (range.start(), range.end());
                text += &format!("| `[{}] {}` | {least} | {most} |\n", section.name, entry.name);
            }
        }
    }
    text +=
        "\nTaken over on SIGHUP, with the files of the TLS certificate; everything else needs a restart:\n\n";
    for name in Settings::taken_while_running() {
        text += &format!("- {name}\n");
    }
    if std::env::var_os("PAYJOIN_WRITE_DOCS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text, "run the tests with PAYJOIN_WRITE_DOCS=1");
}
