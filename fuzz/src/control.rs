//! Lines on the control socket.

use payjoin_node::Request;

/// A command that is read is written as the same command.
pub fn control(data: &[u8]) {
    let Ok(line) = std::str::from_utf8(data) else { return };
    let Ok(request) = serde_json::from_str::<Request>(line) else { return };
    let again = serde_json::to_string(&request).expect("what was read can be written");
    assert_eq!(serde_json::from_str::<Request>(&again).ok(), Some(request), "{again}");
}
