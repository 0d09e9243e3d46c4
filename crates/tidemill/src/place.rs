//! Where the store is to be: made ready before anything starts, or refused with
//! the mend. Later, when it runs, nothing that befalls the disk ends it.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Context, anyhow, bail};
use rustix::fs::Access;

/// Makes the folder of the store, and looks whether it can be written. A disk that
/// is full, read-only or fails is no reason not to start: it may be mended.
///
/// # Errors
/// When it can't: with what is in the way, and what to do.
pub(crate) fn ready(path: &Path) -> anyhow::Result<()> {
    let name = path.display();
    if path.is_dir() {
        bail!("store.path: {name} is a folder: name a file in it, such as {name}/tidemill.db");
    }
    // Of a bare name the folder is where we are.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    if let Some(file) = folder.ancestors().find(|at| at.is_file()) {
        bail!("store.path: {} is a file, so {name} can't be in it", file.display());
    }
    let mended = |outcome: io::Result<()>| match outcome {
        Err(error) if is_of_the_disk(&error) => Ok(()),
        outcome => outcome,
    };
    let refused = |error: io::Error, what: &str| {
        let mend = mend(&error, folder);
        anyhow!(error).context(format!("store.path: {} {what}; {mend}", folder.display()))
    };
    mended(fs::create_dir_all(folder)).map_err(|error| refused(error, "can't be made"))?;
    let may = |path, what| mended(rustix::fs::access(path, what).map_err(io::Error::from));
    if folder.exists() {
        may(folder, Access::WRITE_OK | Access::EXEC_OK)
            .map_err(|error| refused(error, "can't be written"))?;
    }
    if path.exists() {
        may(path, Access::READ_OK | Access::WRITE_OK).with_context(|| {
            format!("store.path: {name} can't be written; chown it to the gateway's user")
        })?;
    }
    Ok(())
}

/// Whether a disk is full, read-only or fails.
pub(crate) fn is_of_the_disk(error: &io::Error) -> bool {
    let kinds = [ErrorKind::QuotaExceeded, ErrorKind::ReadOnlyFilesystem, ErrorKind::StorageFull];
    let fails = Some(rustix::io::Errno::IO.raw_os_error());
    kinds.contains(&error.kind()) || error.raw_os_error() == fails
}

fn mend(error: &io::Error, folder: &Path) -> String {
    match error.kind() {
        ErrorKind::PermissionDenied => {
            format!("sudo install -d -o tidemill {}, or name another place", folder.display())
        }
        _ => "name a place on a disk or card".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(path: &Path) -> String {
        format!("{:#}", ready(path).unwrap_err())
    }

    #[test]
    fn a_folder_is_made_and_nothing_else_happens() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b/tidemill.db");
        ready(&path).unwrap();
        assert!(path.parent().unwrap().is_dir() && !path.exists());
    }

    #[test]
    fn what_is_in_the_way_is_named_with_the_mend() {
        let dir = tempfile::tempdir().unwrap();
        let folder = refusal(dir.path());
        assert!(
            folder.ends_with(&format!("such as {}/tidemill.db", dir.path().display())),
            "{folder}"
        );
        fs::write(dir.path().join("file"), "").unwrap();
        let below = refusal(&dir.path().join("file/sub/a.db"));
        assert!(below.contains("/file is a file, so"), "{below}");
        let nowhere = refusal(Path::new("/proc/nowhere/a.db"));
        assert!(
            nowhere.contains("/proc/nowhere can't be made; name a place on a disk"),
            "{nowhere}"
        );
    }

    #[test]
    fn each_kind_of_refusal_has_its_own_mend() {
        let mend = |kind: ErrorKind| mend(&kind.into(), Path::new("/a"));
        assert!(mend(ErrorKind::PermissionDenied).contains("sudo install -d -o tidemill /a"));
        assert!(mend(ErrorKind::NotADirectory).contains("name a place on a disk"));
    }
}
