//! What outlives a restart: the password's hash and the tokens', in a file
//! beside the store that nobody else may read.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::secret::Digest;

/// The file is a few kilobytes; a larger one isn't ours.
const FILE_MAX: u64 = 1 << 20;

/// The content of the file. Secrets are hashed: reading it lets nobody in.
#[derive(Clone, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Kept {
    /// argon2id in the PHC string format.
    pub(super) password: Option<String>,
    pub(super) tokens: Vec<Token>,
}

/// A bearer token.
#[derive(Clone, Debug, Serialize, Deserialize, PartialEq, Eq)]
#[serde(deny_unknown_fields)]
pub(super) struct Token {
    pub(super) name: String,
    pub(super) scope: Scope,
    /// When it was made, RFC 3339.
    pub(super) created: String,
    /// SHA-256 of the token, hexadecimal.
    pub(super) digest: String,
}

/// What a token allows.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Looking.
    #[default]
    Read,
    /// Looking, and writing outputs.
    Write,
}

impl Kept {
    /// The name of the token with this digest, and what it allows. Every token
    /// is compared, so that the time doesn't tell which are there.
    pub(super) fn token(&self, digest: &Digest) -> Option<(&str, Scope)> {
        let found = |token: &Token| Digest::from_hex(&token.digest).is_some_and(|d| d.is(digest));
        self.tokens.iter().fold(None, |seen, token| match found(token) {
            true => Some((token.name.as_str(), token.scope)),
            false => seen,
        })
    }
}

/// Reads the file; a missing one is empty.
///
/// # Errors
/// When it is there and can't be read or understood.
pub(super) fn load(path: &Path) -> io::Result<Kept> {
    let text = match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Kept::default()),
        Err(error) => return Err(error),
        Ok(about) if about.len() > FILE_MAX => return Err(io::Error::other("it is too large")),
        Ok(_) => fs::read(path)?,
    };
    // serde's own words would show what stands in the file.
    serde_json::from_slice(&text).map_err(|error| {
        let (line, column) = (error.line(), error.column());
        io::Error::new(io::ErrorKind::InvalidData, format!("not understood at {line}:{column}"))
    })
}

/// Writes the file so that a power cut leaves the old one or the new one.
///
/// # Errors
/// When the folder can't be written.
pub(super) fn save(path: &Path, kept: &Kept) -> io::Result<()> {
    let new = with_ending(path, "new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => (),
    }
    // Nobody else may read it at any time, so the mode comes with the making.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new)?;
    file.write_all(&serde_json::to_vec_pretty(kept)?)?;
    file.sync_all()?;
    fs::rename(&new, path)?;
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Puts a file aside that can't be read, and says where.
///
/// # Errors
/// When the folder can't be written.
pub(super) fn put_aside(path: &Path) -> io::Result<PathBuf> {
    let aside = with_ending(path, "damaged");
    fs::rename(path, &aside)?;
    Ok(aside)
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(ending);
    path.with_file_name(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn what_is_saved_is_read_again_and_is_ours_alone() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("access.json");
        assert_eq!(load(&path).unwrap(), Kept::default());
        let token = Token {
            name: "script".into(),
            scope: Scope::Write,
            created: "2026-11-24T08:20:03.000000Z".into(),
            digest: Digest::of("x").to_hex(),
        };
        let kept = Kept { password: Some("$argon2id$…".into()), tokens: vec![token] };
        save(&path, &kept).unwrap();
        save(&path, &kept).unwrap();
        assert_eq!(load(&path).unwrap(), kept);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "no file is left behind");
        assert_eq!(kept.token(&Digest::of("x")), Some(("script", Scope::Write)));
        assert_eq!(kept.token(&Digest::of("y")), None);
    }

    #[test]
    fn a_damaged_file_is_told_without_its_content() {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("access.json");
        fs::write(&path, r#"{"password":"canary","tokens":"canary"}"#).unwrap();
        let error = load(&path).unwrap_err().to_string();
        assert!(!error.contains("canary"), "{error}");
        assert!(put_aside(&path).unwrap().ends_with("access.json.damaged"));
        assert_eq!(load(&path).unwrap(), Kept::default());
    }
}
