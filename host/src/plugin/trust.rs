//! Files that others could put in a plugin's place are not loaded.

use guard_sdk::{Error, Result};
use std::{fs, os::unix::fs::MetadataExt, path::Path};

const OTHERS_WRITE: u32 = 0o002;
const STICKY: u32 = 0o1000;

/// An error if everybody may write to the file or to its folder, or may rename a folder above. The message continues the
/// sentence "plugin `file` ...".
///
/// # Errors
/// See above; or if the permissions cannot be read.
pub fn only_trusted(path: &Path) -> Result<()> {
    let resolved = path.canonicalize().unwrap_or_else(|_| path.to_path_buf());
    let mode = |path: &Path| {
        let unreadable =
            |error| Error::with_code("file", format!("has permissions that cannot be read: {error}"));
        fs::metadata(path).map(|metadata| metadata.mode()).map_err(unreadable)
    };
    if mode(&resolved)? & OTHERS_WRITE != 0 {
        let advice = format!("take the permission away: `chmod o-w {}`", resolved.display());
        return Err(Error::with_code("trust", "can be written to by everybody").help(advice));
    }
    for (above, folder) in resolved.ancestors().skip(1).enumerate() {
        let mode = mode(folder)?;
        // In a folder such as /tmp everybody may make files, but only rename their own.
        let open = mode & OTHERS_WRITE != 0 && (above == 0 || mode & STICKY == 0);
        if open {
            let message = format!("lies in `{}`, to which everybody may write", folder.display());
            return Err(Error::with_code("trust", message).help("put it into a folder of your own"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs::Permissions, os::unix::fs::PermissionsExt};

    #[test]
    fn what_everybody_may_write_to_is_not_trusted() {
        let folder = tempfile::tempdir().unwrap();
        let inner = folder.path().join("inner");
        fs::create_dir(&inner).unwrap();
        let file = inner.join("libx.so");
        fs::write(&file, "").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        let refusal = || only_trusted(&file).err().map(|error| error.message);
        set(&file, 0o644);
        assert_eq!(refusal(), None);
        set(&file, 0o646);
        assert_eq!(refusal().unwrap(), "can be written to by everybody");
        set(&file, 0o644);
        for (path, mode) in [(inner.as_path(), 0o1777), (&inner, 0o777), (folder.path(), 0o777)] {
            set(path, mode);
            assert!(refusal().unwrap().ends_with("to which everybody may write"), "{mode:o}");
            set(path, 0o755);
        }
        // As /tmp: others can make folders beside, but not put one in this one's place.
        set(folder.path(), 0o1777);
        assert_eq!(refusal(), None);
    }
}
