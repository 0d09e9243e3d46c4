use std::fmt;
use std::io;

use reading::Fault;

/// Why a device could not be opened or read: what a reading keeps of it, and
/// what a person should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What a bad reading says.
    pub fault: Fault,
    /// What was tried, what went wrong, and the mend.
    pub detail: String,
}

impl Failure {
    /// Joins the two.
    pub fn new(fault: Fault, detail: impl Into<String>) -> Failure {
        Failure { fault, detail: detail.into() }
    }

    /// What the operating system said about `thing`.
    pub fn io(thing: &str, error: &io::Error) -> Failure {
        Failure::new(fault(error), format!("{thing}: {error}"))
    }
}

/// The word for an error of the operating system.
pub(crate) fn fault(error: &io::Error) -> Fault {
    /// "No such device or address": the file is there, the hardware isn't.
    const ENXIO: i32 = 6;
    const ENODEV: i32 = 19;
    match (error.kind(), error.raw_os_error()) {
        (io::ErrorKind::NotFound, _) | (_, Some(ENXIO | ENODEV)) => Fault::Absent,
        (io::ErrorKind::PermissionDenied, _) => Fault::Denied,
        (io::ErrorKind::ResourceBusy, _) => Fault::Busy,
        (io::ErrorKind::TimedOut, _) => Fault::Timeout,
        (io::ErrorKind::InvalidData, _) => Fault::Corrupt,
        _ => Fault::Io,
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Failure {}
