//! payjoin-lightning
