//! payjoin-tor
