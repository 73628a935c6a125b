use bitcoin::hashes::Hash;
use bitcoin::{KnownHrp, WPubkeyHash, WitnessProgram, WitnessVersion};

use super::*;

const ENDPOINT: &str = "https://pay.example.com/abc";
const ONION: &str = "http://vjdpwgybvubne5hda6v4c5iaeeevhge6jvo3w2cl6eocbwwvwxp7b7qd.onion/abc";
const AMOUNT: Amount = Amount::from_sat(150_000);

fn address(network: Network) -> Address {
    let program = WitnessProgram::new(WitnessVersion::V0, &WPubkeyHash::all_zeros()[..]).unwrap();
    Address::from_witness_program(program, KnownHrp::from(network))
}

fn read(text: &str) -> Result<Code, CodeError> {
    Code::read(text, Network::Regtest)
}

/// The one spelling.
fn plain() -> String {
    format!("bitcoin:{}?amount=0.0015", address(Network::Regtest))
}

#[test]
fn every_spelling_of_a_code_is_the_same_code() {
    let (lower, one) = (address(Network::Regtest).to_string(), format!("{}&pj={ENDPOINT}", plain()));
    let upper = lower.to_uppercase();
    for text in [
        one.clone(),
        format!("bitcoin:{lower}?pj={ENDPOINT}&amount=0.0015"),
        format!("  BITCOIN:{upper}?AMOUNT=0.0015&PJ=HTTPS://PAY.EXAMPLE.COM/abc\n"),
        format!("Bitcoin:{lower}?&&amount=0.001500000000&pj=https%3A%2F%2Fpay.example.com%2Fabc&"),
        format!("{lower}?amount=0.0015&req-pj={ENDPOINT}&label=Tea&somethingnew=1"),
        format!("bitcoin:{lower}?amount=0.0015&pj={ENDPOINT}&lightning=lnbcrt1abc"),
    ] {
        let code = read(&text).unwrap();
        assert_eq!((code.uri(), &code.unusable), (one.clone(), &None), "{text}");
        let output = TxOut { value: AMOUNT, script_pubkey: address(Network::Regtest).script_pubkey() };
        assert_eq!(code.output(), Ok(output));
    }
}

#[test]
fn a_code_in_capitals_keeps_its_onion_host_and_its_fragment() {
    let (host, fragment) = (ONION.to_uppercase(), "%23EX1C4UC6ES-OH1QYPM59NK2-RK1Q0DJS3VVDX");
    let text = format!("BITCOIN:{}?AMOUNT=0.0015&PJ={host}", address(Network::Regtest)).to_uppercase();
    let code = read(&text).unwrap();
    assert_eq!(code.uri(), format!("{}&pj={}", plain(), ONION.replace("/abc", "/ABC")));
    assert_eq!(code.unusable, None);
    let v2 = format!("{}&pjos=0&pj=HTTPS://DIRECTORY.EXAMPLE/TXJCGKTKXLUUZ{fragment}", plain());
    let code = read(&v2).unwrap();
    assert!(code.uri().ends_with(&format!("/TXJCGKTKXLUUZ{fragment}&pjos=0")), "{}", code.uri());
}

#[test]
fn an_amount_of_the_payer_fills_what_the_code_leaves_open() {
    let open = address(Network::Regtest).to_string();
    let by = |text: &str, sat| read(text).unwrap().paying(Some(Amount::from_sat(sat))).map(|code| code.uri());
    let unnamed = read(&open).unwrap().paying(None).unwrap();
    assert_eq!((unnamed.output(), unnamed.uri()), (Err(CodeError::NoAmount), format!("bitcoin:{open}")));
    assert_eq!(by(&open, 150_000), Ok(plain()));
    assert_eq!(by(&plain(), 150_000), Ok(plain()));
    let other = CodeError::OtherAmount { code: AMOUNT, payer: Amount::from_sat(150_001) };
    assert_eq!(by(&plain(), 150_001), Err(other));
}

#[test]
fn what_cannot_be_paid_says_why() {
    let address = |network| address(network).to_string();
    let regtest = address(Network::Regtest);
    let ours = Network::Regtest;
    let cases = [
        (String::new(), CodeError::Unreadable),
        ("nonsense".into(), CodeError::Unreadable),
        ("bitcoin:nonsense?amount=1".into(), CodeError::Unreadable),
        ("LIGHTNING:LNBCRT1ABC".into(), CodeError::Lightning),
        ("lnbcrt1abc".into(), CodeError::Lightning),
        ("bitcoin:?lightning=lnbcrt1abc".into(), CodeError::Lightning),
        (address(Network::Bitcoin), CodeError::Network { theirs: "mainnet", ours }),
        (address(Network::Signet), CodeError::Network { theirs: "testnet or signet", ours }),
        (format!("{regtest}?amount=1,5"), CodeError::Amount("1,5".into())),
        (format!("{regtest}?amount=0.0"), CodeError::Amount("0.0".into())),
        (format!("{regtest}?amount=0.000000001"), CodeError::Amount("0.000000001".into())),
        (format!("{regtest}?amount=1&AMOUNT=2"), CodeError::Twice("amount".into())),
        (format!("{regtest}?amount=1&pj={ENDPOINT}&req-pj={ENDPOINT}"), CodeError::Twice("pj".into())),
        (format!("{regtest}?amount=1&req-escrow=1"), CodeError::Required("escrow".into())),
    ];
    for (text, error) in cases {
        assert_eq!(read(&text), Err(error), "{text}");
    }
}

#[test]
fn an_offer_that_cannot_be_used_is_refused_only_where_the_receiver_insists() {
    for endpoint in ["http://pay.example.com/abc", "ftp://pay.example.com", "nonsense"] {
        let code = read(&format!("{}&pj={endpoint}", plain())).unwrap();
        assert!(code.unusable.is_some(), "{endpoint}");
        assert_eq!(code.amount, Some(AMOUNT));
        let told = read(&format!("{}&req-pj={endpoint}", plain()));
        assert!(matches!(told, Err(CodeError::Payjoin(_))), "{endpoint}: {told:?}");
    }
}
