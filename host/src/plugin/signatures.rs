//! Detached minisign signatures: `libx.so.minisig` beside `libx.so`, by one of the keys that the user trusts.

use guard_sdk::{Error, Result};
use minisign_verify::{PublicKey, Signature};
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// The keys whose signatures count.
#[derive(Clone)]
pub struct TrustedKeys {
    keys: Vec<PublicKey>,
}

impl TrustedKeys {
    /// Reads a list of minisign's public keys: one a line, as `minisign -G` prints them. What begins with `#` or with
    /// `untrusted comment:` is passed over, so that `.pub` files may be joined to a list.
    ///
    /// # Errors
    /// If the file cannot be read, a line is no key, or there is none.
    pub fn read(path: &Path) -> Result<Self> {
        let named = |why: String| {
            Error::with_code("keys", format!("the list of trusted keys `{}` {why}", path.display()))
                .help("write one public key of minisign on each line, such as `RWQf6LRC...`")
        };
        let text = fs::read_to_string(path).map_err(|error| named(format!("cannot be read: {error}")))?;
        let lines = text.lines().map(str::trim).enumerate();
        let keys = lines
            .filter(|(_, line)| {
                !line.is_empty() && !line.starts_with('#') && !line.starts_with("untrusted comment:")
            })
            .map(|(index, line)| {
                PublicKey::from_base64(line)
                    .map_err(|error| named(format!("has no key on line {}: {error}", index + 1)))
            })
            .collect::<Result<Vec<_>>>()?;
        if keys.is_empty() {
            return Err(named("has no key".into()));
        }
        Ok(Self { keys })
    }

    /// Whether a library is signed by one of the keys. The message continues the sentence "plugin `file` ...".
    ///
    /// # Errors
    /// If there is no signature beside it, or none of these keys made it for these bytes.
    pub fn admit(&self, library: &Path) -> Result<()> {
        let place = signature_of(library);
        let refused = |why: String| Error::with_code("signature", why);
        let text = fs::read_to_string(&place).map_err(|error| {
            refused(format!("has no signature `{}`: {error}", place.display()))
                .help("its author signs it with `minisign -S -m FILE`")
        })?;
        let signature = Signature::decode(&text).map_err(|error| {
            refused(format!("has a signature `{}` that is none: {error}", place.display()))
        })?;
        let bytes = fs::read(library).map_err(|error| refused(format!("cannot be read: {error}")))?;
        // Prehashed signatures alone, which minisign has made since 0.6.
        match self.keys.iter().any(|key| key.verify(&bytes, &signature, false).is_ok()) {
            true => Ok(()),
            false => Err(refused("is not signed by any of the trusted keys, or was changed since".into())
                .help("get it, and its `.minisig`, from its author again")),
        }
    }
}

/// The file of a library's signature.
fn signature_of(library: &Path) -> PathBuf {
    let mut name = OsString::from(library);
    name.push(".minisig");
    name.into()
}
