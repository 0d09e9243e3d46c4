//! The password, read anew before each connect so that it can be changed, and
//! never shown: errors name the place, not the content.

use std::env;
use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use crate::Config;

/// A password is short; this guards against `password_file = "/dev/zero"`. MQTT
/// would take 65,535.
const PASSWORD_MAX: u64 = 16 * 1024;

/// Why there is no password.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("the password can't be read from {}: {error}", path.display())]
    File { path: PathBuf, error: std::io::Error },
    #[error("the password in {} is not a text of at most 16 KiB", .0.display())]
    Text(PathBuf),
    #[error("the password isn't in the environment variable {0}")]
    Variable(String),
    #[error(
        "the credential {0} isn't there: add LoadCredential={0}:FILE to the service, or use \
         `password_file`"
    )]
    Credential(String),
}

/// The password of the configuration, if there is one.
pub(crate) fn password(config: &Config) -> Result<Option<String>, Error> {
    password_in(config, |name| env::var_os(name))
}

/// The same, with another environment.
pub(crate) fn password_in(
    config: &Config,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<Option<String>, Error> {
    if let Some(path) = &config.password_file {
        return read(path).map(Some);
    }
    if let Some(name) = &config.credential {
        let folder =
            variable("CREDENTIALS_DIRECTORY").ok_or_else(|| Error::Credential(name.clone()))?;
        return read(&Path::new(&folder).join(name)).map(Some);
    }
    if let Some(name) = &config.password_env {
        let word = variable(name).and_then(|word| word.into_string().ok());
        return word.map(Some).ok_or_else(|| Error::Variable(name.clone()));
    }
    Ok(None)
}

fn read(path: &Path) -> Result<String, Error> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(PASSWORD_MAX + 1).read_to_end(&mut bytes))
        .map_err(|error| Error::File { path: path.to_owned(), error })?;
    let text = String::from_utf8(bytes).map_err(|_| Error::Text(path.to_owned()))?;
    if text.len() as u64 > PASSWORD_MAX {
        return Err(Error::Text(path.to_owned()));
    }
    // Editors end a file with a newline; no password does.
    Ok(text.trim_end_matches(['\n', '\r']).to_owned())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    #[test]
    fn the_newline_of_an_editor_is_no_part_of_it() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b" pass word \r\n").unwrap();
        let config = Config { password_file: Some(file.path().into()), ..Config::default() };
        assert_eq!(password(&config).unwrap().as_deref(), Some(" pass word "));
    }

    #[test]
    fn an_error_names_the_place_and_not_the_content() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"secret\xff").unwrap();
        let config = Config { password_file: Some(file.path().into()), ..Config::default() };
        let error = password(&config).unwrap_err().to_string();
        assert!(error.contains("not a text") && !error.contains("secret"), "{error}");
        let config = Config { password_env: Some("TIDEMILL_UNSET".into()), ..Config::default() };
        assert!(password(&config).unwrap_err().to_string().contains("TIDEMILL_UNSET"));
    }
    #[test]
    fn systemd_and_the_environment_are_asked() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("cloud-password"), "one\n").unwrap();
        let credential = Config { credential: Some("cloud-password".into()), ..Config::default() };
        let variable = Config { password_env: Some("WORD".into()), ..Config::default() };
        let environment = |name: &str| match name {
            "CREDENTIALS_DIRECTORY" => Some(folder.path().into()),
            "WORD" => Some("two".into()),
            _ => None,
        };
        assert_eq!(password_in(&credential, environment).unwrap().as_deref(), Some("one"));
        assert_eq!(password_in(&variable, environment).unwrap().as_deref(), Some("two"));
        let error = password_in(&credential, |_| None).unwrap_err().to_string();
        assert!(error.contains("LoadCredential=cloud-password:"), "{error}");
    }
}
