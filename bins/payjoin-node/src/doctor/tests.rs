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
    use Health::{Good, Trouble};
    let told = found(0o755, |_, _| {}).await;
    assert!(!told.healthy);
    let expected = [("settings", Good), ("folder", Trouble), ("bitcoind", Trouble), ("lightning", Good)];
    assert_eq!(states(&told), expected);
    for (at, word) in [(1, "chmod 700"), (2, "under [bitcoind]")] {
        assert!(told.findings[at].text.contains(word), "{:?}", told.findings[at]);
    }
    let told = found(0o700, |settings, _| settings.lightning.birthday = Some(1)).await;
    assert_eq!(states(&told)[..2], [("settings", Good), ("folder", Good)]);
}

#[cfg(feature = "cln")]
#[tokio::test]
async fn a_core_lightning_that_is_away_is_told_with_its_socket() {
    let told = found(0o700, |settings, folder| {
        settings.lightning.backend = crate::settings::Kind::Cln;
        settings.cln.socket = Some(folder.join("lightning-rpc"));
    })
    .await;
    let last = told.findings.last().unwrap();
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
    let last = told.findings.last().unwrap();
    assert_eq!((last.check, last.state), ("lightning", Health::Trouble));
    assert!(last.text.contains("tls.cert"), "{last:?}");
}
