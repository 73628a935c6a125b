//! Values with bounds. The control socket holds to them as the command line does.

use std::str::FromStr;

use bitcoin::FeeRate;
use serde::{Deserialize, Serialize};

/// How long a code is good for, in seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub(crate) struct Lifetime(u64);

impl Lifetime {
    /// A year. What lies further ahead is a mistake, and far ahead it fits neither the database nor a code.
    const LONGEST: u64 = 366 * 24 * 3600;

    pub(crate) fn seconds(self) -> u64 {
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

/// A fee rate, from 1 to 1000 sat/vB.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u32", into = "u32")]
pub(crate) struct SatPerVb(u32);

impl TryFrom<u32> for SatPerVb {
    type Error = &'static str;

    fn try_from(rate: u32) -> Result<Self, Self::Error> {
        if (1..=1000).contains(&rate) {
            Ok(Self(rate))
        } else {
            Err("a fee rate is a whole number from 1 to 1000 sat/vB")
        }
    }
}

impl From<SatPerVb> for u32 {
    fn from(rate: SatPerVb) -> Self {
        rate.0
    }
}

impl From<SatPerVb> for FeeRate {
    fn from(rate: SatPerVb) -> Self {
        Self::from_sat_per_vb_u32(rate.0)
    }
}

impl FromStr for SatPerVb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // What is no number is refused with the same words as 0.
        Ok(text.parse().unwrap_or(0u32).try_into()?)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use crate::cli::{Cli, Command};

    /// The command as the daemon reads it from its socket, with one of its values replaced.
    fn through_the_socket(args: &[&str], field: &str, value: u64) -> Result<Command, String> {
        let cli = Cli::try_parse_from([&["payjoind"], args].concat()).unwrap();
        let mut json = serde_json::to_value(cli.command).unwrap();
        let verb = json.as_object_mut().unwrap().values_mut().next().unwrap();
        let fields = if verb.get(field).is_some() { verb } else { &mut verb["bump"] };
        assert!(fields.get(field).is_some(), "{fields}");
        fields[field] = json!(value);
        serde_json::from_value(json).map_err(|error| error.to_string())
    }

    #[test]
    fn a_code_is_good_for_a_second_at_least_and_a_year_at_most() {
        let expires = |time| {
            let cli = Cli::try_parse_from(["payjoind", "receive", "--expires", time]);
            cli.map(|cli| match cli.command {
                Command::Receive(args) => args.expires.seconds(),
                command => panic!("{command:?}"),
            })
        };
        for (time, seconds) in [("1s", 1), ("90s", 90), ("30m", 1800), ("7d", 604_800), ("366d", 31_622_400)]
        {
            assert_eq!(expires(time).unwrap(), seconds, "{time}");
        }
        for dead in ["0s", "0h", "999ms"] {
            let refusal = expires(dead).unwrap_err().to_string();
            assert!(refusal.contains("a second at least"), "{dead}: {refusal}");
        }
        let refusal = expires("367d").unwrap_err().to_string();
        assert!(refusal.contains("a year at most"), "{refusal}");
        assert!(expires("soon").is_err());
    }

    #[test]
    fn the_control_socket_refuses_what_the_command_line_refuses() {
        let send = ["send", "bitcoin:x", "--fee-rate", "5"];
        let bump = ["exchange", "bump", "7", "--fee-rate", "5"];
        for (args, field, good, bad) in [
            (&["receive"][..], "expires", 60, [0, 31_622_401, u64::MAX]),
            (&send, "fee_rate", 1000, [0, 1001, u64::from(u32::MAX)]),
            (&bump, "fee_rate", 1000, [0, 1001, u64::MAX]),
        ] {
            through_the_socket(args, field, good).unwrap();
            for bad in bad {
                assert!(through_the_socket(args, field, bad).is_err(), "{args:?} {field} {bad}");
            }
        }
    }
}
