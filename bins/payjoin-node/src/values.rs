//! Values with bounds, and how amounts are written.

pub(crate) mod schema;

use std::str::FromStr;

use bitcoin::{Amount, FeeRate};
use payjoin_core::ChannelAmount;
use serde::{Deserialize, Serialize, Serializer};

/// How long a code is good for, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Lifetime(u64);

impl Lifetime {
    /// A year. What lies further ahead is a mistake, and far ahead it fits neither the database nor a code.
    const LONGEST: u64 = 366 * 24 * 3600;

    /// In seconds.
    pub fn seconds(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Lifetime {
    type Error = &'static str;

    fn try_from(seconds: u64) -> Result<Self, Self::Error> {
        match seconds {
            0 => Err("the code would expire at once: give it a second at least"),
            1..=Self::LONGEST => Ok(Self(seconds)),
            _ => Err("a code is good for a year at most"),
        }
    }
}

impl From<Lifetime> for u64 {
    fn from(lifetime: Lifetime) -> Self {
        lifetime.0
    }
}

impl FromStr for Lifetime {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
        Ok(time.as_secs().try_into()?)
    }
}

/// A fee rate, from 0.001 to 1000 sat/vB; in JSON a number, decimal where it is not whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "f64")]
pub struct SatPerVb(#[serde(serialize_with = "sat_per_vb::serialize")] FeeRate);

impl TryFrom<f64> for SatPerVb {
    type Error = &'static str;

    fn try_from(rate: f64) -> Result<Self, Self::Error> {
        match sat_per_vb::rate(rate).filter(|_| (0.001..=1000.0).contains(&rate)) {
            Some(rate) => Ok(Self(rate)),
            None => Err("a fee rate is a number from 0.001 to 1000 sat/vB"),
        }
    }
}

impl From<SatPerVb> for FeeRate {
    fn from(rate: SatPerVb) -> Self {
        rate.0
    }
}

impl FromStr for SatPerVb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What is no number is refused with the same words as 0.
        Ok(text.parse().unwrap_or(0.0).try_into()?)
    }
}

/// Fee rates as people write them, in sat/vB with decimals. What falls between two rates is rounded up: they are minimums, or
/// what shall be enough.
pub(crate) mod sat_per_vb {
    use bitcoin::FeeRate;
    use serde::{Deserialize, Deserializer, Serializer, de};

    /// More is absurd.
    const MOST: f64 = 1_000_000.0;
    /// What binary fractions are off by.
    const NOISE: f64 = 1e-6;

    pub(crate) fn rate(rate: f64) -> Option<FeeRate> {
        let kwu = (rate * 250.0 - NOISE).ceil();
        (0.0..=MOST).contains(&rate).then(|| FeeRate::from_sat_per_kwu(kwu as u64))
    }

    pub(crate) fn serialize<S: Serializer>(rate: &FeeRate, to: S) -> Result<S::Ok, S::Error> {
        match rate.to_sat_per_kwu() {
            whole if whole % 250 == 0 => to.serialize_u64(whole / 250),
            kwu => to.serialize_f64(kwu as f64 / 250.0),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<FeeRate, D::Error> {
        let number = f64::deserialize(from)?;
        rate(number).ok_or_else(|| de::Error::custom(format!("{number} sat/vB is no fee rate")))
    }
}

/// The value of a channel, written `250000`, or `rest` for what the payment leaves after the other channels, or `absorb`
/// for the payment and the coins that go with it, whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AmountOrRest(ChannelAmount);

impl From<AmountOrRest> for ChannelAmount {
    fn from(amount: AmountOrRest) -> Self {
        amount.0
    }
}

impl From<ChannelAmount> for AmountOrRest {
    fn from(amount: ChannelAmount) -> Self {
        Self(amount)
    }
}

impl From<AmountOrRest> for String {
    fn from(AmountOrRest(amount): AmountOrRest) -> Self {
        match amount {
            ChannelAmount::Exact(amount) => amount.to_sat().to_string(),
            ChannelAmount::Rest => REST.to_owned(),
            ChannelAmount::Absorb => ABSORB.to_owned(),
        }
    }
}

impl FromStr for AmountOrRest {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            REST => Ok(Self(ChannelAmount::Rest)),
            ABSORB => Ok(Self(ChannelAmount::Absorb)),
            sat => match sat.parse() {
                Ok(sat) => Ok(Self(ChannelAmount::Exact(Amount::from_sat(sat)))),
                Err(_) => Err(format!("{text} is neither a whole number of satoshis nor `rest`")),
            },
        }
    }
}

impl TryFrom<String> for AmountOrRest {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

const REST: &str = "rest";
const ABSORB: &str = "absorb";

/// A number of satoshis, `"rest"` or `"absorb"`.
pub(crate) fn sat_or_rest<S: Serializer>(amount: &ChannelAmount, to: S) -> Result<S::Ok, S::Error> {
    match amount {
        ChannelAmount::Exact(amount) => to.serialize_u64(amount.to_sat()),
        ChannelAmount::Rest => to.serialize_str(REST),
        ChannelAmount::Absorb => to.serialize_str(ABSORB),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read<T: for<'de> Deserialize<'de>>(json: &str) -> Result<T, String> {
        serde_json::from_str(json).map_err(|error| error.to_string())
    }

    #[test]
    fn what_is_out_of_bounds_is_no_value() {
        for (seconds, good) in
            [(0, false), (1, true), (31_622_400, true), (31_622_401, false), (u64::MAX, false)]
        {
            assert_eq!(Lifetime::try_from(seconds).is_ok(), good, "{seconds}");
            assert_eq!(read::<Lifetime>(&seconds.to_string()).is_ok(), good, "{seconds}");
        }
        for (rate, good) in [
            ("0", false),
            ("0.0009", false),
            ("0.001", true),
            ("1", true),
            ("1000", true),
            ("1001", false),
            ("-1", false),
        ] {
            assert_eq!(rate.parse::<SatPerVb>().is_ok(), good, "{rate}");
            assert_eq!(read::<SatPerVb>(rate).is_ok(), good, "{rate}");
        }
    }

    #[test]
    fn a_fee_rate_may_have_decimals_and_is_rounded_up() {
        for (text, kwu, json) in [
            ("7", 1_750, "7"),
            ("0.1", 25, "0.1"),
            ("1.1", 275, "1.1"),
            ("0.99", 248, "0.992"),
            ("0.001", 1, "0.004"),
            ("1000", 250_000, "1000"),
        ] {
            let rate: SatPerVb = text.parse().unwrap();
            assert_eq!(FeeRate::from(rate), FeeRate::from_sat_per_kwu(kwu), "{text}");
            assert_eq!(serde_json::to_string(&rate).unwrap(), json);
            assert_eq!(read::<SatPerVb>(json).unwrap(), rate, "{text}");
        }
    }

    #[test]
    fn times_and_rates_are_written_as_people_do() {
        for (text, seconds) in [("1s", 1), ("90s", 90), ("30m", 1800), ("7d", 604_800), ("366d", 31_622_400)]
        {
            assert_eq!(text.parse::<Lifetime>().unwrap().seconds(), seconds, "{text}");
        }
        for (text, why) in
            [("0s", "a second at least"), ("999ms", "a second at least"), ("367d", "a year at most")]
        {
            assert!(text.parse::<Lifetime>().unwrap_err().contains(why), "{text}");
        }
        assert!("soon".parse::<Lifetime>().is_err());
        for bad in ["0", "1001", "inf", "NaN", "five"] {
            assert!(bad.parse::<SatPerVb>().unwrap_err().contains("from 0.001 to 1000"), "{bad}");
        }
    }

    #[test]
    fn an_amount_of_a_channel_is_a_number_or_the_rest() {
        let exact = AmountOrRest::from(ChannelAmount::Exact(Amount::from_sat(250_000)));
        let rest = AmountOrRest::from(ChannelAmount::Rest);
        for (value, json) in [(exact, r#""250000""#), (rest, r#""rest""#)] {
            assert_eq!(serde_json::to_string(&value).unwrap(), json);
            assert_eq!(read::<AmountOrRest>(json).unwrap(), value);
        }
        for bad in ["five", "-1", "2.5", ""] {
            assert_eq!(
                bad.parse::<AmountOrRest>().unwrap_err(),
                format!("{bad} is neither a whole number of satoshis nor `rest`")
            );
        }
    }
}
