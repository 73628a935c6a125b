//! payjoin-io

mod http;
mod ohttp;
#[cfg(test)]
mod testing;

pub use http::{DirectClient, DirectSettings, HttpClient, HttpError, HttpRequest, HttpResponse};
pub use ohttp::{Ohttp, OhttpError};
