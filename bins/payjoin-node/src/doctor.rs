//! `doctor`: looks at everything that a node needs, without starting one.

mod bitcoind;
mod folder;
mod lightning;
mod ways;

use std::future::Future;
use std::pin::Pin;

use serde::Serialize;

use crate::settings::Settings;

/// What a look has found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// What was looked at.
    pub check: &'static str,
    /// How it is.
    pub state: Health,
    /// What was seen, and what to do about it.
    pub text: String,
}

/// How something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// As it should be.
    Good,
    /// A node runs all the same.
    Warning,
    /// A node does not start, or offers nothing.
    Trouble,
}

/// What all looks have found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnosis {
    /// Nothing keeps a node from its work.
    pub healthy: bool,
    /// In the order of the looks.
    pub findings: Vec<Finding>,
}

/// One look. It changes nothing, and answers within seconds.
type Check = for<'a> fn(&'a Settings) -> Pin<Box<dyn Future<Output = Vec<Finding>> + Send + 'a>>;

/// Every look, in order. A new one is a function and a line here.
const CHECKS: &[Check] = &[
    |settings| Box::pin(async { folder::settings(settings) }),
    |settings| Box::pin(async { folder::folder(settings) }),
    |settings| Box::pin(async { folder::disk(settings) }),
    |settings| Box::pin(async { folder::database(settings) }),
    |settings| Box::pin(bitcoind::bitcoind(settings)),
    |settings| Box::pin(lightning::lightning(settings)),
    |settings| Box::pin(ways::ways(settings)),
];

/// Looks at everything that a node with these settings needs.
pub async fn diagnose(mut settings: Settings) -> Diagnosis {
    settings.resolve();
    let mut findings = Vec::new();
    for check in CHECKS {
        findings.extend(check(&settings).await);
    }
    Diagnosis { healthy: findings.iter().all(|finding| finding.state != Health::Trouble), findings }
}

impl Finding {
    fn good(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, state: Health::Good, text: text.into() }
    }

    fn warning(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, state: Health::Warning, text: text.into() }
    }

    fn trouble(check: &'static str, text: impl Into<String>) -> Self {
        Self { check, state: Health::Trouble, text: text.into() }
    }
}

#[cfg(test)]
mod tests;
