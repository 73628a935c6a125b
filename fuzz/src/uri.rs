//! BIP 21 codes of those whom we pay.

use bitcoin::Network;
use payjoin_core::{Code, bip21_v1};

const ENDPOINTS: [&str; 2] =
    ["https://pay.example/abc", "http://vjdpwgybvubne5hda6v4c5iaeeevhge6jvo3w2cl6eocbwwvwxp7b7qd.onion/abc"];

/// A code in its one spelling is the same code, and asks for what a code of ours for the same would ask for.
pub fn uri(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    for network in [Network::Bitcoin, Network::Regtest, Network::Signet] {
        let Ok(code) = Code::read(text, network) else { continue };
        assert_eq!(Code::read(&code.uri(), network).as_ref(), Ok(&code), "{text}");
        let Ok(output) = code.output() else { continue };
        for endpoint in ENDPOINTS {
            let ours = bip21_v1(&code.address, code.amount, endpoint).expect("endpoints of ours are good");
            let read = Code::read(&ours, network).and_then(|ours| ours.output());
            assert_eq!(read.as_ref(), Ok(&output), "{ours}");
        }
    }
}
