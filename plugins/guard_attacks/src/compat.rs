//! What released code does differently, to reproduce numbers that were taken with it.

/// Whose numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Compat {
    /// The torchattacks package, 3.5.1.
    Torchattacks,
}

impl Compat {
    /// What to print beside a number that was taken so.
    pub fn caveat(compat: Option<Self>, what: &str) -> Option<String> {
        compat.map(|Self::Torchattacks| format!("repeats torchattacks 3.5.1, which {what}"))
    }
}
