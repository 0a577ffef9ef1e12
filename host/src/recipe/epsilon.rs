//! The threat's radius as people write it: `0.03`, `"8/255"`, a list of such, or `"curve"`.
//!
//! The rule: the writing is kept beside the number, so that every result can show the radius as the recipe has it.

use std::borrow::Cow;
use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

/// A radius in pixel units (images are in [0, 1]), above 0. Displays as written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Written", into = "Written")]
pub struct Epsilon {
    written: Written,
    pixels: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Written {
    Number(f64),
    Fraction(String),
}

/// Why something is not a radius.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EpsilonError {
    /// The text is not two plain numbers with a slash between.
    #[error("`{0}` is not a fraction")]
    NoFraction(String),
    /// The number below the slash is 0.
    #[error("the radius `{0}` divides by zero")]
    DivisionByZero(String),
    /// The number is 0, negative or not finite.
    #[error("the radius `{0}` is not above 0 and finite")]
    OutOfRange(String),
}

impl Epsilon {
    /// Reads a fraction such as `8/255`.
    ///
    /// # Errors
    ///
    /// It is no fraction, divides by zero, or is not positive and finite.
    pub fn fraction(text: &str) -> Result<Epsilon, EpsilonError> {
        let plain = |part: &str| {
            let digits = part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let number = part.parse::<f64>().ok();
            number.filter(|_| digits)
        };
        let parts = text.split_once('/');
        let parts =
            parts.and_then(|(up, down)| Some((plain(up.trim_matches(' '))?, plain(down.trim_matches(' '))?)));
        let Some((numerator, denominator)) = parts else {
            return Err(EpsilonError::NoFraction(text.to_owned()));
        };
        if denominator == 0.0 {
            return Err(EpsilonError::DivisionByZero(text.to_owned()));
        }
        Epsilon::checked(Written::Fraction(text.to_owned()), numerator / denominator)
    }

    /// Takes a number.
    ///
    /// # Errors
    ///
    /// It is not positive or not finite.
    pub fn number(pixels: f64) -> Result<Epsilon, EpsilonError> {
        Epsilon::checked(Written::Number(pixels), pixels)
    }

    fn checked(written: Written, pixels: f64) -> Result<Epsilon, EpsilonError> {
        if pixels.is_finite() && pixels > 0.0 {
            Ok(Epsilon { written, pixels })
        } else {
            Err(EpsilonError::OutOfRange(written.to_string()))
        }
    }

    /// The radius in pixel units.
    pub fn pixels(&self) -> f64 {
        self.pixels
    }
}

impl fmt::Display for Epsilon {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Written::Number(number) => number.fmt(f),
            Written::Fraction(text) => f.write_str(text),
        }
    }
}

impl TryFrom<Written> for Epsilon {
    type Error = EpsilonError;

    fn try_from(written: Written) -> Result<Epsilon, EpsilonError> {
        match written {
            Written::Number(number) => Epsilon::number(number),
            Written::Fraction(text) => Epsilon::fraction(&text),
        }
    }
}

impl From<Epsilon> for Written {
    fn from(epsilon: Epsilon) -> Written {
        epsilon.written
    }
}

/// One radius or several, in the order written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(from = "OneOrMany", into = "OneOrMany")]
pub struct Epsilons(pub Vec<Epsilon>);

/// The radii of a curve in the linf norm; 0, the clean accuracy, is always there.
pub const CURVE: [&str; 6] = ["0.5/255", "1/255", "2/255", "4/255", "8/255", "16/255"];

#[derive(Clone, Serialize, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    Curve(Curve),
    One(Epsilon),
    Many(Vec<Epsilon>),
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Curve {
    Curve,
}

impl From<OneOrMany> for Epsilons {
    fn from(written: OneOrMany) -> Epsilons {
        match written {
            OneOrMany::Curve(Curve::Curve) => {
                Epsilons(CURVE.into_iter().filter_map(|radius| Epsilon::fraction(radius).ok()).collect())
            }
            OneOrMany::One(epsilon) => Epsilons(vec![epsilon]),
            OneOrMany::Many(epsilons) => Epsilons(epsilons),
        }
    }
}

impl From<Epsilons> for OneOrMany {
    fn from(Epsilons(mut epsilons): Epsilons) -> OneOrMany {
        match epsilons.len() {
            1 => OneOrMany::One(epsilons.remove(0)),
            _ => OneOrMany::Many(epsilons),
        }
    }
}

impl JsonSchema for Epsilons {
    fn schema_name() -> Cow<'static, str> {
        "Epsilons".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let one = generator.subschema_for::<Epsilon>();
        let one_or_curve = forms(
            r#"write a fraction in quotes, such as "8/255", a number without them, or "curve""#,
            &format!("{FRACTION}|^curve$"),
        );
        json_schema!({
            "description": "A radius in pixel units, a list of them, or \"curve\": ½, 1, 2, 4, 8 and 16 levels of 255.",
            "anyOf": [one_or_curve, { "type": "array", "minItems": 1, "items": one }]
        })
    }
}

impl JsonSchema for Epsilon {
    fn schema_name() -> Cow<'static, str> {
        "Epsilon".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        forms("write a fraction in quotes, such as \"8/255\", or a number without them", FRACTION)
    }
}

/// A fraction of two plain numbers, as a regular expression.
const FRACTION: &str = r"^ *([0-9]+\.?[0-9]*|\.[0-9]+) */ *([0-9]+\.?[0-9]*|\.[0-9]+) *$";

/// A number above 0, or text that matches `pattern`; `advice` is for text that does not.
fn forms(advice: &str, pattern: &str) -> Schema {
    json_schema!({
        "description": "A radius in pixel units: a number above 0, or a fraction in quotes.",
        "anyOf": [
            { "type": "number", "exclusiveMinimum": 0 },
            { "type": "string", "description": advice, "pattern": pattern }
        ]
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_fraction_is_a_number_that_remembers_its_writing() {
        let epsilon = Epsilon::fraction("8/255").expect("a fraction");
        assert_eq!(epsilon.pixels(), 8.0 / 255.0);
        assert_eq!(epsilon.to_string(), "8/255");
    }

    #[test]
    fn one_or_several_come_back_as_written() {
        for written in [json!("1/255"), json!(0.5), json!(["1 / 255", 0.5])] {
            let read: Epsilons = serde_json::from_value(written.clone()).expect("good");
            assert_eq!(serde_json::to_value(read).expect("good"), written);
        }
    }

    #[test]
    fn a_curve_is_written_out() {
        let read: Epsilons = serde_json::from_value(json!("curve")).expect("good");
        let levels: Vec<f64> = read.0.iter().map(|radius| radius.pixels() * 255.0).collect();
        assert_eq!(levels, [0.5, 1.0, 2.0, 4.0, 8.0, 16.0]);
        assert_eq!(serde_json::to_value(read).expect("good"), json!(CURVE));
    }

    #[test]
    fn what_is_not_positive_and_finite_is_refused() {
        let refused = |text| Epsilon::fraction(text).expect_err(text).to_string();
        assert_eq!(refused("1/0"), "the radius `1/0` divides by zero");
        assert_eq!(refused("0/0.0"), "the radius `0/0.0` divides by zero");
        assert_eq!(refused("0/3"), "the radius `0/3` is not above 0 and finite");
        for text in ["1", "1/2/3", "-1/3", "inf/3", "1e3/4", "./2", "", "/"] {
            assert_eq!(refused(text), format!("`{text}` is not a fraction"));
        }
        assert!(Epsilon::fraction(&format!("{}/1", "9".repeat(400))).is_err());
        assert!(Epsilon::number(-0.5).is_err());
    }
}
