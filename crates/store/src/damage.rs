//! What of SQLite's errors means that the file is damaged.

/// SQLite's primary result codes, <https://www.sqlite.org/rescode.html>.
const BUSY: i64 = 5;
const LOCKED: i64 = 6;
const CORRUPT: i64 = 11;
const NOT_A_DATABASE: i64 = 26;
/// Of the environment rather than of the file: permission, memory, read-only,
/// input and output, full, can't open, protocol of locks.
const OF_ENVIRONMENT: [i64; 7] = [3, 7, 8, 10, 13, 14, 15];
/// Of these, what a disk does: read-only, input and output, full, can't open.
const OF_THE_DISK: [i64; 4] = [8, 10, 13, 14];
/// Extended: reading failed, or gave less than it should.
const READ_FAILED: [i64; 2] = [266, 522];

/// Whether the file's structure is damaged, whatever else is wrong.
pub(crate) fn is_damage(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| [CORRUPT, NOT_A_DATABASE].contains(&(code & 0xff)))
}

/// The same for a file that is being opened: whatever isn't there, or is not as
/// every version writes it, is damage too.
pub(crate) fn is_damage_at_opening(error: &sqlx::Error) -> bool {
    match (error, code(error)) {
        (_, Some(code)) if READ_FAILED.contains(&code) => true,
        (_, Some(code)) => {
            let code = code & 0xff;
            ![BUSY, LOCKED].contains(&code) && !OF_ENVIRONMENT.contains(&code)
        }
        (sqlx::Error::RowNotFound | sqlx::Error::ColumnDecode { .. }, _) => true,
        (sqlx::Error::Decode(_), _) => true,
        _ => false,
    }
}

/// Whether somebody else holds the file.
pub(crate) fn is_locked(error: &sqlx::Error) -> bool {
    code(error).is_some_and(|code| [BUSY, LOCKED].contains(&(code & 0xff)))
}

/// Whether the disk is full, read-only or fails.
pub(crate) fn is_of_the_disk(error: &sqlx::Error) -> bool {
    use std::io::ErrorKind::{QuotaExceeded, ReadOnlyFilesystem, StorageFull};
    match error {
        sqlx::Error::Io(error) => {
            let kinds = [QuotaExceeded, ReadOnlyFilesystem, StorageFull];
            let eio = rustix::io::Errno::IO.raw_os_error();
            kinds.contains(&error.kind()) || error.raw_os_error() == Some(eio)
        }
        error => code(error).is_some_and(|code| OF_THE_DISK.contains(&(code & 0xff))),
    }
}

fn code(error: &sqlx::Error) -> Option<i64> {
    error.as_database_error()?.code()?.parse().ok()
}
