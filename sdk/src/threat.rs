//! How far a method may go from an image, as an option: norm and radius as in a recipe's `evaluate.threat`.

use crate::{Budget, Norm};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use std::borrow::Cow;

/// A ball around each image.
#[derive(Debug, Clone, Copy, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Threat {
    /// How the size of a change is measured.
    pub norm: Norm,
    /// The radius in pixel units: images are in [0, 1].
    pub epsilon: Radius,
}

impl Threat {
    /// What an attack may do.
    pub fn budget(self) -> Budget {
        Budget { norm: self.norm, epsilon: self.epsilon.0 }
    }
}

/// A radius in pixel units, above 0 and finite; read from a number, or from a fraction such as `"8/255"`.
#[derive(Debug, Clone, Copy, PartialEq, serde::Deserialize)]
#[serde(try_from = "Written")]
pub struct Radius(f64);

#[derive(serde::Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Fraction(String),
}

impl TryFrom<Written> for Radius {
    type Error = String;

    fn try_from(written: Written) -> Result<Self, String> {
        let (radius, text) = match written {
            Written::Number(radius) => (Some(radius), radius.to_string()),
            Written::Fraction(text) => (quotient(&text), text),
        };
        match radius {
            Some(radius) if radius.is_finite() && radius > 0.0 => Ok(Self(radius)),
            _ => Err(format!("`{text}` is not a radius above 0, such as 0.03 or \"8/255\"")),
        }
    }
}

fn quotient(text: &str) -> Option<f64> {
    let (numerator, denominator) = text.split_once('/')?;
    let plain = |part: &str| part.trim().parse::<f64>().ok();
    Some(plain(numerator)? / plain(denominator)?)
}

impl JsonSchema for Radius {
    fn schema_name() -> Cow<'static, str> {
        "Radius".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "A radius in pixel units: a number above 0, or a fraction in quotes.",
            "anyOf": [
                { "type": "number", "exclusiveMinimum": 0 },
                { "type": "string", "pattern": r"^ *[0-9.]+ */ *[0-9.]+ *$" }
            ]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read(written: Value) -> Result<f64, String> {
        serde_json::from_value::<Radius>(written).map(|radius| radius.0).map_err(|error| error.to_string())
    }

    #[test]
    fn a_radius_is_a_number_or_a_fraction() {
        assert_eq!(read(json!(0.25)), Ok(0.25));
        assert_eq!(read(json!("8/255")), Ok(8.0 / 255.0));
        assert_eq!(read(json!(" 1 / 2 ")), Ok(0.5));
    }

    #[test]
    fn what_is_no_radius_is_refused() {
        for wrong in
            [json!(0), json!(-1.0), json!("1/0"), json!("0/255"), json!("8"), json!("a/b"), json!("-1/2")]
        {
            assert!(read(wrong.clone()).is_err_and(|error| error.contains("is not a radius")), "{wrong}");
        }
    }
}
