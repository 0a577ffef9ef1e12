//! A method's name, and what else is called after it.

use guard_sdk::{Error, Result};

/// A name as recipes have it, e.g. `my-attack`.
pub struct Name(String);

impl Name {
    /// Checks the name.
    ///
    /// # Errors
    /// If it is not lower-case words with hyphens between, or Rust would take it for a word of its own.
    pub fn new(name: &str) -> Result<Self> {
        let word = |word: &str| {
            word.starts_with(|c: char| c.is_ascii_lowercase())
                && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit())
        };
        if !name.split('-').all(word) {
            return Err(Error::new(format!("`{name}` is no name for a method"))
                .help("lower-case words of letters and digits with hyphens between, such as `my-attack`"));
        }
        const TAKEN: [&str; 12] =
            ["test", "lib", "src", "self", "super", "crate", "mod", "fn", "impl", "trait", "type", "use"];
        if TAKEN.contains(&name) {
            return Err(
                Error::new(format!("`{name}` means something else to Rust")).help("choose another name")
            );
        }
        Ok(Self(name.into()))
    }

    /// `my-attack`: method, folder.
    pub fn method(&self) -> &str {
        &self.0
    }

    /// `my_attack`: crate, file.
    pub fn snake(&self) -> String {
        self.0.replace('-', "_")
    }

    /// `MyAttack`: type.
    pub fn pascal(&self) -> String {
        let word = |word: &str| {
            let (first, rest) = word.split_at(1);
            first.to_ascii_uppercase() + rest
        };
        self.0.split('-').map(word).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_written_as_each_place_wants_it() {
        let name = Name::new("my-second-attack2").unwrap();
        assert_eq!(name.method(), "my-second-attack2");
        assert_eq!((name.snake().as_str(), name.pascal().as_str()), ("my_second_attack2", "MySecondAttack2"));
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for wrong in ["", "-", "a-", "A", "a_b", "a b", "1a", "../a", "self"] {
            assert!(Name::new(wrong).is_err(), "{wrong}");
        }
    }
}
