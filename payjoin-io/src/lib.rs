//! payjoin-io
