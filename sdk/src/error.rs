//! Errors are data: a code to match, a sentence to read, advice, causes, and the option to point at.

use std::fmt;

/// The result of everything fallible in this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong in a method or at the boundary.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    /// A stable word for the kind of failure: `failed`, `options`, `unsupported`, `torch`, `panic`, `poisoned`, `busy`,
    /// `cancelled`, `interface`.
    pub code: String,
    /// One sentence, lower-case, without full stop.
    pub message: String,
    /// What the user can do about it.
    pub help: Option<String>,
    /// What led to it, outermost first.
    pub causes: Vec<String>,
    /// Where in the method's options the cause lies, as a JSON pointer such as `/radius`.
    pub option_path: Option<String>,
}

impl Error {
    /// A failure with a code of its own.
    pub fn with_code(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), help: None, causes: Vec::new(), option_path: None }
    }

    /// A failure that has no more specific code.
    pub fn new(message: impl Into<String>) -> Self {
        Self::with_code("failed", message)
    }

    /// A value of the method's options that cannot be used; `path` is a JSON pointer such as `/radius`.
    pub fn option(path: impl Into<String>, message: impl Into<String>) -> Self {
        let mut error = Self::with_code("options", message);
        error.option_path = Some(path.into());
        error
    }

    /// Something that this method, network or host does not do.
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self::with_code("unsupported", message)
    }

    /// Adds advice.
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    /// Adds what led to it.
    pub fn cause(mut self, cause: impl fmt::Display) -> Self {
        self.causes.push(cause.to_string());
        self
    }

    /// Puts a context before the message, e.g. the method that was called.
    pub fn context(mut self, context: impl fmt::Display) -> Self {
        self.message = format!("{context}: {}", self.message);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Error {}

impl From<tch::TchError> for Error {
    fn from(error: tch::TchError) -> Self {
        let text = match &error {
            tch::TchError::Torch(text) => first_lines(text),
            other => other.to_string(),
        };
        Self::with_code("torch", text)
    }
}

impl From<serde_json::Error> for Error {
    fn from(error: serde_json::Error) -> Self {
        Self::with_code("interface", error.to_string())
    }
}

/// libtorch's message without the C++ stack that it appends.
pub(crate) fn first_lines(text: &str) -> String {
    let end = text.find("\nException raised from").unwrap_or(text.len());
    text[..end].trim().to_string()
}
