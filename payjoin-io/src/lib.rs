//! payjoin-io

mod http;

pub use http::{DirectClient, DirectSettings, HttpClient, HttpError, HttpRequest, HttpResponse};
