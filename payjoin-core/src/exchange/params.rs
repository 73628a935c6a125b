//! The query of a v1 request. BIP 78, "Optional parameters".

use bitcoin::Amount;

use crate::{MinFeeRate, Reply};

/// What the payer asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Params {
    /// At most this much may be taken from the output of this index, for the weight of our inputs.
    pub(crate) contribution: Option<(Amount, usize)>,
    /// The payjoin must not fall below this fee rate.
    pub(crate) min_fee_rate: MinFeeRate,
    /// Whether the payment output may be replaced.
    pub(crate) substitution: bool,
}

impl Params {
    /// Reads a query. Unknown parameters are ignored. A known one given twice is refused, because two readers could
    /// disagree on which of the two counts.
    pub(crate) fn parse(query: &str) -> Result<Self, Reply> {
        let [mut version, mut index, mut most, mut rate, mut fixed] = [const { None::<String> }; 5];
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let slot = match decode(key)?.as_str() {
                "v" => &mut version,
                "additionalfeeoutputindex" => &mut index,
                "maxadditionalfeecontribution" => &mut most,
                "minfeerate" => &mut rate,
                "disableoutputsubstitution" => &mut fixed,
                _ => continue,
            };
            if slot.replace(decode(value)?).is_some() {
                return Err(Reply::REPEATED_PARAMETER);
            }
        }
        if version.is_some_and(|version| version != "1") {
            return Err(Reply::UNKNOWN_VERSION);
        }
        // BIP 78 has an unusable offer ignored, one below zero included.
        let most = most.and_then(|sats| sats.parse().ok()).map(Amount::from_sat);
        let index = index.and_then(|index| index.parse().ok());
        Ok(Self {
            contribution: most.zip(index),
            min_fee_rate: rate.map_or(Ok(MinFeeRate::ZERO), |rate| fee_rate(&rate))?,
            // Some senders write `True`. Whatever does not say `false` forbids: the safe reading.
            substitution: fixed.is_none_or(|fixed| fixed.eq_ignore_ascii_case("false")),
        })
    }

    /// The query for the `payjoin` crate, with what we take of the payer's offer. It gets only what we decided on, in
    /// its own spelling.
    pub(crate) fn to_query(&self, taken: Amount) -> String {
        // Without a least rate the crate takes 1 sat/vB. What is least is said with the rate.
        let mut query = format!("v=1&minfeerate=0&disableoutputsubstitution={}", !self.substitution);
        if let Some((_, index)) = self.contribution.filter(|_| taken > Amount::ZERO) {
            query +=
                &format!("&maxadditionalfeecontribution={}&additionalfeeoutputindex={index}", taken.to_sat());
        }
        query
    }
}

fn fee_rate(text: &str) -> Result<MinFeeRate, Reply> {
    text.parse().ok().and_then(MinFeeRate::from_sat_per_vb).ok_or(Reply::NO_FEE_RATE)
}

/// Undoes percent-encoding. RFC 3986, section 2.1.
fn decode(text: &str) -> Result<String, Reply> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => match (rest.next().and_then(nibble), rest.next().and_then(nibble)) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return Err(Reply::MALFORMED_QUERY),
            },
            b'!'..=b'~' if byte != b'#' => byte,
            _ => return Err(Reply::MALFORMED_QUERY),
        });
    }
    String::from_utf8(bytes).map_err(|_| Reply::MALFORMED_QUERY)
}

fn nibble(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok())
}
