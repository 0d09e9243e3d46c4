//! SQLite's way to the disk, but for one thing: a durable commit is filled up to
//! the next sector of 4,096 bytes of the log.
//!
//! SQLite would do so by itself on a disk that may spoil the rest of a sector when
//! its power goes in the midst of a write, as cards do (`SQLITE_IOCAP_POWERSAFE_
//! OVERWRITE`, which it takes for granted on Unix). It then also takes each page
//! for a part of such a sector and writes its neighbours with it, which for small
//! pages is eight times as much. Here the log alone has sectors of that size.
//! What is durable is never written over, and each page of the system's goes to
//! the card once: for a reading every 100 ms a quarter less.
//!
//! See `sqlite3WalFrames` and `setSectorSize` in SQLite's source.

#![expect(unsafe_code, reason = "SQLite's interface for this is C's")]

use std::collections::HashMap;
use std::ffi::{c_char, c_int};
use std::sync::{Mutex, OnceLock, PoisonError};

use libsqlite3_sys::{
    SQLITE_CANTOPEN, SQLITE_IOCAP_POWERSAFE_OVERWRITE, SQLITE_OK, SQLITE_OPEN_MAIN_DB,
    sqlite3_file, sqlite3_io_methods, sqlite3_vfs, sqlite3_vfs_find, sqlite3_vfs_register,
};

/// A sector of the file itself: no larger than any page, so that each is written
/// alone.
const SECTOR: c_int = 512;

/// The methods of an open file: ours come first, where SQLite looks for them.
#[repr(C)]
struct Methods {
    ours: sqlite3_io_methods,
    theirs: sqlite3_io_methods,
}

/// The name by which a connection asks for it; registered when first asked.
/// `None` where SQLite has no way to the disk of its own.
pub(crate) fn vfs() -> Option<&'static str> {
    static REGISTERED: OnceLock<bool> = OnceLock::new();
    let registered = REGISTERED.get_or_init(|| {
        // SAFETY: the default is there for ever. Ours is the same but for its
        // name and one function, is never freed, and isn't made the default.
        unsafe {
            let default = sqlite3_vfs_find(std::ptr::null());
            let Some(default) = default.as_ref() else { return false };
            let ours = sqlite3_vfs {
                zName: c"tidemill".as_ptr(),
                pNext: std::ptr::null_mut(),
                xOpen: Some(open),
                ..*default
            };
            sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 0) == SQLITE_OK
        }
    });
    registered.then_some("tidemill")
}

/// Opens as the default does, and changes the methods of the file itself; its log
/// and the others keep theirs.
unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives what xOpen asks for, and room for what the default
    // keeps of a file; the default has filled in `pMethods` when it says so.
    unsafe {
        let default = sqlite3_vfs_find(std::ptr::null());
        let Some(xopen) = default.as_ref().and_then(|default| default.xOpen) else {
            return SQLITE_CANTOPEN;
        };
        let code = xopen(default, name, file, flags, out);
        if code == SQLITE_OK && flags & SQLITE_OPEN_MAIN_DB != 0 && !(*file).pMethods.is_null() {
            (*file).pMethods = &raw const methods((*file).pMethods).ours;
        }
        code
    }
}

/// Ours for theirs; there are as few of them as ways to lock a file.
unsafe fn methods(theirs: *const sqlite3_io_methods) -> &'static Methods {
    static KNOWN: Mutex<Option<HashMap<usize, &'static Methods>>> = Mutex::new(None);
    let mut known = KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    known.get_or_insert_default().entry(theirs as usize).or_insert_with(|| {
        // SAFETY: the caller has it from an open file, and it is never freed.
        let theirs = unsafe { *theirs };
        let ours = sqlite3_io_methods {
            xSectorSize: Some(sector),
            xDeviceCharacteristics: Some(characteristics),
            ..theirs
        };
        Box::leak(Box::new(Methods { ours, theirs }))
    })
}

unsafe extern "C" fn sector(_: *mut sqlite3_file) -> c_int {
    SECTOR
}

/// Theirs, but for the trust in overwriting.
unsafe extern "C" fn characteristics(file: *mut sqlite3_file) -> c_int {
    // SAFETY: this is a method of files alone whose methods `open` has changed.
    unsafe {
        let methods = (*file).pMethods.cast::<Methods>();
        let theirs = (*methods).theirs.xDeviceCharacteristics.map_or(0, |x| x(file));
        theirs & !SQLITE_IOCAP_POWERSAFE_OVERWRITE
    }
}
