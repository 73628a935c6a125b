//! Without any program: what is there and what is not.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// In a folder with this mode.
async fn found(mode: u32, change: impl FnOnce(&mut Settings, &std::path::Path)) -> Diagnosis {
    let folder = tempfile::tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).unwrap();
    let mut settings = Settings { datadir: folder.path().to_owned(), ..Settings::default() };
    // Nobody listens there.
    settings.bitcoind.url = Some("http://127.0.0.1:1".to_owned());
    (settings.bitcoind.user, settings.bitcoind.password) = (Some("u".to_owned()), Some("p".to_owned()));
    change(&mut settings, folder.path());
    diagnose(settings).await
}

fn states(diagnosis: &Diagnosis) -> Vec<(&'static str, Health)> {
    diagnosis.findings.iter().map(|one| (one.check, one.state)).collect()
}

#[tokio::test]
async fn each_look_says_how_it_is_and_what_to_do() {
    use Health::{Good, Trouble, Warning};
    let told = found(0o755, |_, _| {}).await;
    assert!(!told.healthy);
    let expected = [
        ("settings", Good),
        ("folder", Trouble),
        ("disk", Good),
        ("database", Good),
        ("bitcoind", Trouble),
        ("lightning", Good),
        ("payers", Warning),
    ];
    assert_eq!(states(&told), expected);
    for (at, word) in [(1, "chmod 700"), (3, "none yet"), (4, "under [bitcoind]"), (6, "`directories`")] {
        assert!(told.findings[at].text.contains(word), "{:?}", told.findings[at]);
    }
    let told = found(0o700, |settings, _| settings.lightning.birthday = Some(1)).await;
    assert_eq!(states(&told)[..2], [("settings", Good), ("folder", Good)]);
}

#[tokio::test]
async fn a_database_that_cannot_be_read_or_is_newer_and_relays_and_certificates_that_do_not_work_are_trouble()
{
    let told = found(0o700, |settings, folder| {
        std::fs::write(
            folder.join("payjoind.sqlite"),
            "no database at all, but longer than a header".repeat(9),
        )
        .unwrap();
        settings.payjoin.directories = vec!["http://127.0.0.1:1".to_owned()];
        settings.payjoin.ohttp_relays = vec!["http://127.0.0.1:1".to_owned()];
        settings.http.listen = Some("127.0.0.1:0".parse().unwrap());
        (settings.http.certificate, settings.http.key) = (Some(folder.join("a")), Some(folder.join("b")));
        settings.http.public_endpoint = Some("https://localhost".to_owned());
    })
    .await;
    for (check, word) in
        [("database", "payjoind rescue"), ("directory", "name others"), ("https", "certificate")]
    {
        let finding = told.findings.iter().find(|finding| finding.check == check).unwrap();
        assert_eq!(finding.state, Health::Trouble, "{finding:?}");
        assert!(finding.text.contains(word), "{finding:?}");
    }
    let newer = found(0o700, |_, folder| {
        let db = rusqlite::Connection::open(folder.join("payjoind.sqlite")).unwrap();
        db.pragma_update(None, "user_version", 99).unwrap();
    });
    let newer = newer.await;
    assert!(newer.findings[3].text.contains("version 99"), "{:?}", newer.findings[3]);
    assert_eq!(newer.findings[3].state, Health::Trouble);
}

#[cfg(feature = "cln")]
#[tokio::test]
async fn a_core_lightning_that_is_away_is_told_with_its_socket() {
    let told = found(0o700, |settings, folder| {
        settings.lightning.backend = crate::settings::Kind::Cln;
        settings.cln.socket = Some(folder.join("lightning-rpc"));
    })
    .await;
    let last = told.findings.iter().find(|finding| finding.check == "lightning").unwrap();
    assert_eq!((last.check, last.state), ("lightning", Health::Trouble));
    assert!(last.text.contains("start lightningd") && last.text.contains("lightning-rpc"), "{last:?}");
}

#[cfg(feature = "lnd")]
#[tokio::test]
async fn an_lnd_without_its_files_is_told_with_them() {
    let told = found(0o700, |settings, folder| {
        settings.lightning.backend = crate::settings::Kind::Lnd;
        settings.lnd.certificate = Some(folder.join("tls.cert"));
        settings.lnd.macaroon = Some(folder.join("macaroon"));
    })
    .await;
    let last = told.findings.iter().find(|finding| finding.check == "lightning").unwrap();
    assert_eq!((last.check, last.state), ("lightning", Health::Trouble));
    assert!(last.text.contains("tls.cert"), "{last:?}");
}
