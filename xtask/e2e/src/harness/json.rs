//! Fields of JSON objects, with errors that show the object.

use anyhow::{Context, Result};
use bitcoin::{Amount, OutPoint, Txid};
use serde_json::Value;

/// Reads fields that must be there.
pub(crate) trait Fields {
    fn text(&self, name: &str) -> Result<&str>;
    fn number(&self, name: &str) -> Result<u64>;
    fn flag(&self, name: &str) -> Result<bool>;
    fn list(&self, name: &str) -> Result<&[Value]>;

    /// A field in satoshis.
    fn sat(&self, name: &str) -> Result<Amount> {
        Ok(Amount::from_sat(self.number(name)?))
    }

    fn txid(&self, name: &str) -> Result<Txid> {
        self.text(name)?.parse().with_context(|| format!("`{name}` is no transaction id"))
    }

    fn outpoint(&self, name: &str) -> Result<OutPoint> {
        self.text(name)?.parse().with_context(|| format!("`{name}` is no outpoint"))
    }
}

impl Fields for Value {
    fn text(&self, name: &str) -> Result<&str> {
        self[name].as_str().with_context(|| format!("no text `{name}` in {self}"))
    }

    fn number(&self, name: &str) -> Result<u64> {
        self[name].as_u64().with_context(|| format!("no number `{name}` in {self}"))
    }

    fn flag(&self, name: &str) -> Result<bool> {
        self[name].as_bool().with_context(|| format!("no flag `{name}` in {self}"))
    }

    fn list(&self, name: &str) -> Result<&[Value]> {
        self[name].as_array().map(Vec::as_slice).with_context(|| format!("no list `{name}` in {self}"))
    }
}
