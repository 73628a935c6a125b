//! These values as JSON Schema. What each allows is said where it is read.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use super::{AmountOrRest, Lifetime, SatPerVb};

impl JsonSchema for Lifetime {
    fn schema_name() -> Cow<'static, str> {
        "Lifetime".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "How long a code is good for, in seconds.",
            "type": "integer",
            "minimum": 1,
            "maximum": Self::LONGEST,
        })
    }
}

impl JsonSchema for SatPerVb {
    fn schema_name() -> Cow<'static, str> {
        "SatPerVb".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A fee rate in sat/vB.",
            "type": "number",
            "minimum": 0.001,
            "maximum": 1000,
        })
    }
}

impl JsonSchema for AmountOrRest {
    fn schema_name() -> Cow<'static, str> {
        "AmountOrRest".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Satoshis as a text, `rest` for what the payment leaves after the other channels, or `absorb` \
                            for the payment and the coins that go with it, whole.",
            "type": "string",
            "pattern": "^([0-9]+|rest|absorb)$",
        })
    }
}

/// What [`sat_or_rest`](super::sat_or_rest) writes.
pub(crate) fn sat_or_rest(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "description": "In satoshis, or `rest` or `absorb`.",
        "anyOf": [{ "type": "integer", "minimum": 0 }, { "enum": ["rest", "absorb"] }],
    })
}
