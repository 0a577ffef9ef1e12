//! The manifest: what a library offers, as text in the file, so that it can be read without running any of its code.
//!
//! Plugin authors find it as `guard_sdk::manifest`.

pub use guard_abi::{MANIFEST_FORMAT, MANIFEST_SECTION};

/// The libtorch that this was compiled against, e.g. `2.11.0`.
pub const TORCH_VERSION: &str = env!("GUARD_TORCH_VERSION");

/// The kinds of methods.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Makes synthetic data good.
    Objective,
    /// A penalty added to a loss.
    Regularizer,
    /// Finds adversarial inputs.
    Attack,
}

impl Kind {
    /// As in manifests and messages.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Objective => "objective",
            Kind::Regularizer => "regularizer",
            Kind::Attack => "attack",
        }
    }

    /// The id of the interface that this SDK offers for the kind.
    pub const fn interface(self) -> &'static str {
        match self {
            Kind::Objective => guard_abi::ids::OBJECTIVE,
            Kind::Regularizer => guard_abi::ids::REGULARIZER,
            Kind::Attack => guard_abi::ids::ATTACK,
        }
    }
}

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A method that a plugin offers.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct MethodEntry {
    /// Its kind.
    pub kind: Kind,
    /// Its name in recipes.
    pub name: String,
    /// The id of the interface it is called through.
    pub interface: String,
    /// Whether it may run inside a CUDA graph.
    #[serde(default)]
    pub capturable: bool,
}

/// What a plugin says of itself.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Manifest {
    /// The layout of the manifest, `guard-manifest/1`.
    pub format: String,
    /// The plugin's id, e.g. `guard.curv`.
    pub id: String,
    /// The plugin's own version.
    pub version: String,
    /// The libtorch it was compiled against.
    pub torch: String,
    /// `unwind`, or the plugin's panics would end the host.
    pub panic: String,
    /// What it offers.
    pub methods: Vec<MethodEntry>,
}

/// A method's kind, name and whether it is capturable, known at compile time.
#[doc(hidden)]
pub struct Offer(pub Kind, pub &'static str, pub bool);

/// Writes the manifest into `buffer` as far as it reaches, and returns its whole length. Runs at compile time; names are
/// held to characters that need no escaping.
#[doc(hidden)]
pub const fn render(buffer: &mut [u8], id: &str, version: &str, unwinds: bool, offers: &[&[Offer]]) -> usize {
    let mut at = put(buffer, 0, "{\"format\":\"");
    at = put(buffer, at, MANIFEST_FORMAT);
    at = put(buffer, at, "\",\"id\":\"");
    at = put_word(buffer, at, id);
    at = put(buffer, at, "\",\"version\":\"");
    at = put_word(buffer, at, version);
    at = put(buffer, at, "\",\"torch\":\"");
    at = put_word(buffer, at, TORCH_VERSION);
    at = put(buffer, at, if unwinds { "\",\"panic\":\"unwind" } else { "\",\"panic\":\"abort" });
    at = put(buffer, at, "\",\"methods\":[");
    let (mut group, mut first) = (0, true);
    while group < offers.len() {
        let mut item = 0;
        while item < offers[group].len() {
            let Offer(kind, name, capturable) = &offers[group][item];
            at = put(buffer, at, if first { "{\"kind\":\"" } else { ",{\"kind\":\"" });
            at = put(buffer, at, kind.name());
            at = put(buffer, at, "\",\"name\":\"");
            at = put_word(buffer, at, name);
            at = put(buffer, at, "\",\"interface\":\"");
            at = put(buffer, at, kind.interface());
            at = put(buffer, at, if *capturable { "\",\"capturable\":true}" } else { "\"}" });
            first = false;
            item += 1;
        }
        group += 1;
    }
    put(buffer, at, "]}")
}

const fn put(buffer: &mut [u8], at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut index = 0;
    while index < bytes.len() {
        if at + index < buffer.len() {
            buffer[at + index] = bytes[index];
        }
        index += 1;
    }
    at + bytes.len()
}

const fn put_word(buffer: &mut [u8], at: usize, text: &str) -> usize {
    let bytes = text.as_bytes();
    assert!(!bytes.is_empty(), "a plugin's id and the names of its methods must not be empty");
    let mut index = 0;
    while index < bytes.len() {
        assert!(
            matches!(bytes[index], b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_' | b'+'),
            "ids and names consist of letters, digits, `.`, `-`, `_` and `+`"
        );
        index += 1;
    }
    put(buffer, at, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_rendered_at_compile_time_reads_back() {
        const OFFERS: &[&[Offer]] = &[
            &[],
            &[Offer(Kind::Regularizer, "a", false), Offer(Kind::Regularizer, "b-c", true)],
            &[Offer(Kind::Attack, "d", false)],
        ];
        const LENGTH: usize = render(&mut [], "x.y", "1.2.3", true, OFFERS);
        const TEXT: [u8; LENGTH] = {
            let mut text = [0; LENGTH];
            render(&mut text, "x.y", "1.2.3", true, OFFERS);
            text
        };
        let manifest: Manifest = serde_json::from_slice(&TEXT).unwrap();
        assert_eq!(
            (manifest.id.as_str(), manifest.version.as_str(), manifest.panic.as_str()),
            ("x.y", "1.2.3", "unwind")
        );
        assert_eq!(manifest.torch, TORCH_VERSION);
        assert_eq!(
            manifest.methods.iter().map(|method| method.capturable).collect::<Vec<_>>(),
            [false, true, false]
        );
        let names: Vec<_> =
            manifest.methods.iter().map(|m| (m.kind, m.name.as_str(), m.interface.as_str())).collect();
        assert_eq!(
            names,
            [
                (Kind::Regularizer, "a", "guard.regularizer/0.1"),
                (Kind::Regularizer, "b-c", "guard.regularizer/0.1"),
                (Kind::Attack, "d", "guard.attack/0.1")
            ]
        );
    }
}
