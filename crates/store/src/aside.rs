//! A damaged file is put aside, and a new one put in its place: the names.

use std::collections::BTreeSet;
use std::fs::File;
use std::path::{Path, PathBuf};

use reading::Timestamp;

/// Files put aside that are kept: a card at its end must not fill itself.
const ASIDE_MAX: usize = 3;

/// At the end of names: where the damaged file is put, with its `-wal`; where the
/// new one is until it is whole; and from then, with the stamp of the other,
/// until it is in its place.
const DAMAGED: &str = ".damaged-";
const UNFINISHED: &str = ".salvage";
const FINISHED: &str = ".salvaged-";

/// A file, and what belongs to it: SQLite would take either for a new file's own.
/// There is a journal only while a file is made.
const WITH: [&str; 3] = ["", "-wal", "-journal"];

/// Where the new file is until it is whole.
pub(crate) fn unfinished(path: &Path) -> PathBuf {
    beside(path, UNFINISHED)
}

/// The new file is whole and durable: from here on it is the store.
pub(crate) fn swap(path: &Path) -> std::io::Result<PathBuf> {
    remove_oldest(path);
    let finished = beside(path, &format!("{FINISHED}{}", stamp(path)));
    std::fs::rename(unfinished(path), finished)?;
    synchronise_folder(path);
    Ok(take_finished(path)?.unwrap_or_default())
}

/// Whether a new file waits for its place: nothing may be stored in the old one.
pub(crate) fn is_half_done(path: &Path) -> bool {
    !stamps(path, FINISHED).is_empty()
}

/// A new file that is whole takes the place of the damaged one, which is put
/// aside. A start that was killed, or lost its power, on the way leaves the rest
/// of it to the next.
pub(crate) fn take_finished(path: &Path) -> std::io::Result<Option<PathBuf>> {
    let Some(stamp) = stamps(path, FINISHED).pop_last() else { return Ok(None) };
    let aside = beside(path, &format!("{DAMAGED}{stamp}"));
    for suffix in WITH {
        // What is aside is the damaged one: nothing may take its place. What came
        // since is somebody else's, and must not stay beside the new one.
        if beside(&aside, suffix).exists() {
            drop(std::fs::remove_file(beside(path, suffix)));
            continue;
        }
        match std::fs::rename(beside(path, suffix), beside(&aside, suffix)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    // It is made anew from the others.
    drop(std::fs::remove_file(beside(path, "-shm")));
    synchronise_folder(path);
    std::fs::rename(beside(path, &format!("{FINISHED}{stamp}")), path)?;
    synchronise_folder(path);
    Ok(Some(aside))
}

/// What a start that was killed had begun is made anew when it is needed.
pub(crate) fn remove_unfinished(path: &Path) {
    remove(&beside(path, UNFINISHED));
}

/// Has names last, on file systems that know this.
fn synchronise_folder(path: &Path) {
    if let Some(folder) = path.parent().and_then(|folder| File::open(folder).ok()) {
        drop(folder.sync_all());
    }
}

/// Whether there is a log with readings and no file that it belongs to: SQLite
/// would delete it.
pub(crate) fn is_orphan(path: &Path) -> bool {
    let len = |suffix| std::fs::metadata(beside(path, suffix)).map_or(0, |file| file.len());
    len("") < FILE_MIN && len("-wal") > LOG_MIN
}

/// Bytes of the smallest file, and of the header of the log beside it.
const FILE_MIN: u64 = 512;
const LOG_MIN: u64 = 32;

/// When it was: `2026-11-24T082003Z`, and a number more where there is one such.
fn stamp(path: &Path) -> String {
    let now = Timestamp::now().to_string();
    let stamp: String = now.chars().take(19).filter(|c| *c != ':').collect();
    let known = stamps(path, DAMAGED);
    let name = |n: u32| if n == 0 { format!("{stamp}Z") } else { format!("{stamp}Z-{n}") };
    (0..).map(name).find(|name| !known.contains(name)).unwrap_or_default()
}

/// Of the files beside it with such names, oldest first; of some there is the
/// log alone.
fn stamps(path: &Path, names: &str) -> BTreeSet<String> {
    let begin = beside(path, names);
    let begin = begin.file_name().map(|name| name.to_string_lossy().into_owned());
    let (Some(folder), Some(begin)) = (path.parent(), begin) else { return BTreeSet::new() };
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let stamp = |name: String| {
        let stamp = name.strip_prefix(&begin)?;
        let beside = WITH.iter().filter(|suffix| !suffix.is_empty());
        let stamp = beside.fold(stamp, |stamp, suffix| stamp.strip_suffix(suffix).unwrap_or(stamp));
        Some(stamp.to_owned())
    };
    names.filter_map(stamp).collect()
}

/// Of those put aside, so that there is room for another.
fn remove_oldest(path: &Path) {
    let stamps = stamps(path, DAMAGED);
    let surplus = (stamps.len() + 1).saturating_sub(ASIDE_MAX);
    for stamp in stamps.iter().take(surplus) {
        for suffix in WITH {
            // There may be one of them.
            drop(std::fs::remove_file(beside(path, &format!("{DAMAGED}{stamp}{suffix}"))));
        }
    }
}

/// The path with something at its end.
pub(crate) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn remove(path: &Path) {
    for suffix in WITH.into_iter().chain(["-shm"]) {
        // It may not be there.
        drop(std::fs::remove_file(beside(path, suffix)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_left_to_do_is_done_by_the_next() {
        // What there is: the damaged file and its log, here or aside already;
        // and what somebody else may have put there since.
        for (there, aside) in [("dw", ""), ("w", "d"), ("", "dw"), ("dw", "dw"), ("w", "")] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("tidemill.db");
            let write = |begin: &str, which: &str, what: &str| {
                for (letter, suffix) in [('d', ""), ('w', "-wal")] {
                    if which.contains(letter) {
                        std::fs::write(beside(&path, &format!("{begin}{suffix}")), what).unwrap();
                    }
                }
            };
            write("", there, if aside == "dw" { "somebody else's" } else { "damaged" });
            write(".damaged-2026-11-24T082003Z", aside, "damaged");
            write(".salvaged-2026-11-24T082003Z", "d", "new");
            assert!(is_half_done(&path));
            let put = take_finished(&path).unwrap().unwrap();
            assert!(put.to_str().unwrap().ends_with("tidemill.db.damaged-2026-11-24T082003Z"));
            assert_eq!(std::fs::read(&path).unwrap(), b"new", "{there} {aside}");
            assert!(!beside(&path, "-wal").exists(), "{there} {aside}");
            for suffix in ["", "-wal"] {
                let damaged = std::fs::read(beside(&put, suffix));
                assert!(damaged.is_err() || damaged.unwrap() == b"damaged", "{there} {aside}");
            }
            assert!(!is_half_done(&path) && take_finished(&path).unwrap().is_none());
        }
    }
}
