//! The BIP 21 code of an invoice.

use bitcoin::{Address, Amount};
use payjoin::OutputSubstitution;
use payjoin::receive::v1::build_v1_pj_uri;

/// Why no code can be made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UriError {
    /// BIP 78 wants TLS or an onion service.
    #[error("{0} is not an endpoint for payjoin: use an https URL, or http with an onion address")]
    Endpoint(String),
}

/// `bitcoin:ADDRESS?amount=BTC&pj=ENDPOINT`, with output substitution allowed. BIP 21; BIP 78, "Protocol".
///
/// # Errors
/// [`UriError::Endpoint`] when `endpoint` is neither an https URL nor an http URL of an onion service.
pub fn bip21_v1(address: &Address, amount: Option<Amount>, endpoint: &str) -> Result<String, UriError> {
    let mut uri = build_v1_pj_uri(address, endpoint, OutputSubstitution::Enabled)
        .map_err(|_| UriError::Endpoint(endpoint.to_owned()))?;
    if let Some(amount) = amount {
        uri.set_amount(amount);
    }
    Ok(without_capitals(&uri.to_string(), endpoint))
}

/// The payjoin crate writes scheme and host in capitals, to make QR codes small, but reads no onion host that way: its
/// senders would make a plain payment.
fn without_capitals(code: &str, endpoint: &str) -> String {
    let origin: Vec<_> = endpoint.splitn(4, '/').take(3).collect();
    let origin = origin.join("/").to_ascii_lowercase();
    if origin.starts_with("http:") {
        code.replacen(&origin.to_ascii_uppercase(), &origin, 1)
    } else {
        code.to_owned()
    }
}

/// Is this host an onion service? RFC 7686, section 2: nobody but Tor may be asked for its name.
#[must_use]
pub fn is_onion(host: &str) -> bool {
    host.trim_end_matches('.').to_ascii_lowercase().ends_with(".onion")
}

#[cfg(test)]
mod tests {
    use bitcoin::{KnownHrp, Network, WPubkeyHash, hashes::Hash};

    use super::*;

    fn address() -> Address {
        let program =
            bitcoin::WitnessProgram::new(bitcoin::WitnessVersion::V0, &WPubkeyHash::all_zeros()[..]).unwrap();
        Address::from_witness_program(program, KnownHrp::from(Network::Regtest))
    }

    #[test]
    fn a_code_names_address_amount_and_endpoint() {
        let uri =
            bip21_v1(&address(), Some(Amount::from_sat(150_000)), "https://pay.example.com/abc").unwrap();
        assert!(uri.to_lowercase().starts_with(&format!("bitcoin:{}?amount=0.0015", address())), "{uri}");
        assert!(uri.to_lowercase().contains("pj=https://pay.example.com/abc"), "{uri}");
    }

    #[test]
    fn a_code_for_an_onion_service_is_read_by_the_payjoin_crate() {
        let host = "vjdpwgybvubne5hda6v4c5iaeeevhge6jvo3w2cl6eocbwwvwxp7b7qd.onion";
        for endpoint in [format!("http://{host}/abc"), format!("HTTP://{host}:8080/abc")] {
            let uri = bip21_v1(&address(), Some(Amount::from_sat(150_000)), &endpoint).unwrap();
            let read = payjoin::Uri::try_from(uri.as_str()).unwrap().assume_checked();
            assert!(read.check_pj_supported().is_ok(), "{uri}");
            assert!(uri.contains(&format!("pj={}", endpoint.to_lowercase())), "{uri}");
        }
    }

    #[test]
    fn a_clearnet_endpoint_without_tls_is_refused() {
        assert!(bip21_v1(&address(), None, "http://pay.example.com/abc").is_err());
    }

    #[test]
    fn an_onion_service_is_known_by_its_name() {
        for onion in ["aaa.onion", "AAA.Onion", "b.aaa.onion."] {
            assert!(is_onion(onion), "{onion}");
        }
        for other in ["node.example", "aaa.onion.example", "onion", "127.0.0.1", "2001:db8::1"] {
            assert!(!is_onion(other), "{other}");
        }
    }
}
