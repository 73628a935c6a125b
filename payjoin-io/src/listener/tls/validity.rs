//! When a certificate ends. Of X.509 nothing else is read here: rustls checks the rest.

use payjoin_core::Timestamp;

const SEQUENCE: u8 = 0x30;
/// The version, `[0] EXPLICIT`.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;

/// `notAfter`. RFC 5280, sections 4.1 and 4.1.2.5. `None` for what is not written so.
pub(super) fn end(certificate: &[u8]) -> Option<Timestamp> {
    let (_, certificate, _) = element(certificate)?;
    let (SEQUENCE, mut body, _) = element(certificate)? else { return None };
    if body.first() == Some(&VERSION) {
        body = element(body)?.2;
    }
    // Serial number, signature algorithm, issuer.
    for _ in 0..3 {
        body = element(body)?.2;
    }
    let (SEQUENCE, validity, _) = element(body)? else { return None };
    let (_, _, rest) = element(validity)?;
    let (kind, time, _) = element(rest)?;
    let time = std::str::from_utf8(time).ok()?.strip_suffix('Z')?;
    let (year, time) = match kind {
        GENERALIZED_TIME => (number(time.get(..4)?)?, time.get(4..)?),
        UTC_TIME => match number(time.get(..2)?)? {
            year @ 50.. => (1900 + year, time.get(2..)?),
            year => (2000 + year, time.get(2..)?),
        },
        _ => return None,
    };
    let at = |at: usize| number(time.get(at..at + 2)?);
    let (month, day, hour, minute, second) = (at(0)?, at(2)?, at(4)?, at(6)?, at(8)?);
    let sound =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !sound || time.len() != 10 {
        return None;
    }
    let seconds = days(year, month, day)?.checked_mul(86_400)?;
    seconds.checked_add(hour * 3_600 + minute * 60 + second).map(Timestamp)
}

/// An element of DER: its tag, what it holds, and what follows it. X.690, section 8.1.
fn element(bytes: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, rest) = bytes.split_first()?;
    let (&first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        short @ ..=0x7f => (usize::from(short), rest),
        long @ 0x81..=0x84 => {
            let (digits, rest) = rest.split_at_checked(usize::from(long & 0x7f))?;
            (digits.iter().fold(0, |sum, digit| sum << 8 | usize::from(*digit)), rest)
        }
        _ => return None,
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

fn number(digits: &str) -> Option<u64> {
    if digits.bytes().all(|digit| digit.is_ascii_digit()) { digits.parse().ok() } else { None }
}

/// Days from 1970 on; `None` before. Years begin in March, so that the leap day is the last, and repeat themselves every
/// 400 of them, which are 146,097 days.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year.checked_sub(1)?, month + 9) };
    let (era, of_era) = (year / 400, year % 400);
    let day = (153 * month + 2) / 5 + day - 1;
    (era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + day).checked_sub(719_468)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(year: i32, month: u8, day: u8) -> Vec<u8> {
        let mut parameters = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        parameters.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        parameters.self_signed(&key).unwrap().der().to_vec()
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_either_way_of_writing_it() {
        for ((year, month, day), seconds) in [
            ((1980, 1, 1), 315_532_800),
            ((2000, 2, 29), 951_782_400),
            ((2026, 12, 31), 1_798_675_200),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((4096, 1, 1), 67_090_118_400),
        ] {
            assert_eq!(end(&made(year, month, day)), Some(Timestamp(seconds)), "{year}-{month}-{day}");
        }
    }

    #[test]
    fn what_is_no_certificate_has_no_end_and_no_cut_of_one_either() {
        let whole = made(2030, 1, 1);
        for length in 0..whole.len() {
            assert_eq!(end(&whole[..length]), None, "{length}");
        }
        for bytes in [&b""[..], &[0x30; 300], &[0x30, 0x80], &[0x30, 0x84, 0xff, 0xff, 0xff, 0xff]] {
            assert_eq!(end(bytes), None);
        }
    }
}
