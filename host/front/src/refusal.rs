//! Why a file, or what is asked for, cannot be used.

/// The result of everything fallible in this crate.
pub type Result<T, E = Refusal> = std::result::Result<T, E>;

/// Why something cannot be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// A stable word for the kind: `file`, `manifest`, `libtorch`, `host`.
    pub code: &'static str,
    /// One sentence, lower-case, without full stop.
    pub message: String,
    /// What the user can do about it.
    pub help: Option<String>,
}

impl Refusal {
    /// One without advice.
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), help: None }
    }

    /// Adds advice.
    pub(crate) fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    /// As the host tells its own failures.
    pub(crate) fn told(&self) -> String {
        let help = self.help.as_ref().map_or(String::new(), |help| format!("\n  help: {help}"));
        format!("error: {}{help}", self.message)
    }
}
