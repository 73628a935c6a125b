//! The TLS certificate: read again by itself when its files change, and its end told in time.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use payjoin_core::Timestamp;
use payjoin_io::Tls;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::clock::now;

/// How often the files are looked at.
const LOOK: Duration = Duration::from_secs(5);
/// The end is told so long before.
const NOTICE_DAYS: u64 = 14;
const DAY: u64 = 24 * 3_600;

/// Who sees a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shown {
    /// Payers.
    ToPayers,
    /// The operator's own programs, at the API.
    ToPrograms,
}

impl Shown {
    fn whom(self) -> &'static str {
        match self {
            Self::ToPayers => "payers",
            Self::ToPrograms => "your programs",
        }
    }
}

/// What is shown, and the files that it comes from.
pub(crate) struct Certificate {
    tls: Arc<Tls>,
    certificate: PathBuf,
    key: PathBuf,
    shown: Shown,
    /// What was said last of files that cannot be used, and of the end.
    said: Mutex<[Option<String>; 2]>,
}

impl Certificate {
    pub(crate) fn new(tls: Arc<Tls>, certificate: PathBuf, key: PathBuf, shown: Shown) -> Self {
        Self { tls, certificate, key, shown, said: Mutex::default() }
    }

    /// Looks at the files until the stop.
    pub(crate) async fn keep(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        loop {
            self.look();
            if timeout(LOOK, stop.wait_for(|stop| *stop)).await.is_ok() {
                return;
            }
        }
    }

    /// Reads the files again. What is new is logged once.
    pub(crate) fn look(&self) {
        let whom = self.shown.whom();
        let failure = match self.tls.renew(&self.certificate, &self.key) {
            Ok(true) => {
                tracing::info!("the TLS certificate was read again: {whom} see the new one");
                None
            }
            Ok(false) => None,
            Err(error) => Some(format!("{whom} go on to see the TLS certificate from before: {error}")),
        };
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        for (said, now) in said.iter_mut().zip([failure, self.warning(now())]) {
            if let Some(warning) = now.as_ref().filter(|_| *said != now) {
                tracing::warn!("{warning}");
            }
            *said = now;
        }
    }

    /// That it ends soon, or has ended, and what to do.
    pub(crate) fn warning(&self, now: Timestamp) -> Option<String> {
        let (file, ends) = (self.certificate.display(), self.tls.ends()?);
        match ends.0.checked_sub(now.0) {
            None => Some(format!(
                "the TLS certificate {file} has ended, {} days ago: {} refuse it. Renew it; the new file is read by itself",
                (now.0 - ends.0) / DAY,
                self.shown.whom()
            )),
            Some(left) if left < NOTICE_DAYS * DAY => Some(format!(
                "the TLS certificate {file} ends in {} days: renew it; the new file is read by itself",
                left / DAY
            )),
            Some(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_is_told_two_weeks_before_and_a_file_that_cannot_be_used_changes_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("c.pem"), folder.path().join("k.pem"));
        let write = |year| {
            let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
            parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
            let pair = rcgen::KeyPair::generate().unwrap();
            std::fs::write(&certificate, parameters.self_signed(&pair).unwrap().pem()).unwrap();
            std::fs::write(&key, pair.serialize_pem()).unwrap();
        };
        write(2030);
        let tls = Arc::new(Tls::bind("127.0.0.1:0", &certificate, &key).await.unwrap());
        let kept = Certificate::new(tls, certificate.clone(), key.clone(), Shown::ToPayers);
        let ends = 1_893_456_000;
        for (now, part) in [
            (ends - 14 * DAY, None),
            (ends - 14 * DAY + 1, Some("ends in 13 days")),
            (ends, Some("ends in 0 days")),
            (ends + 3 * DAY, Some("has ended, 3 days ago")),
        ] {
            let warning = kept.warning(Timestamp(now));
            assert_eq!(warning.is_some(), part.is_some(), "{warning:?}");
            assert!(part.is_none_or(|part| warning.unwrap().contains(part)), "{now}");
        }
        write(2031);
        kept.look();
        assert_eq!(kept.warning(Timestamp(ends)), None, "the new one is shown");
        std::fs::write(&certificate, "half a certificate").unwrap();
        kept.look();
        assert_eq!(kept.tls.ends(), Some(Timestamp(1_924_992_000)), "the one from before stays");
    }
}
