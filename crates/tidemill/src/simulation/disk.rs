//! A card under SQLite: a VFS (<https://sqlite.org/vfs.html>) that passes all on
//! to the system's, keeps in mind what has been made durable and what has not,
//! fails when told to, and can be cut at any call, as by a kill or a power cut.

use std::collections::{BTreeMap, HashMap};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, OnceLock, PoisonError};

use libsqlite3_sys as sqlite;
use sqlite::{sqlite3_file, sqlite3_int64, sqlite3_io_methods, sqlite3_vfs};

use super::dice::Dice;

/// What power is cut to: a sector is written whole or not at all.
const SECTOR: usize = 512;

/// How every write fails for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fault {
    /// Nothing can be written.
    Io,
    /// There is no room; what needs none succeeds.
    Full,
    /// Nothing can be made durable.
    Sync,
}

/// What ends a life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// The system still has all that was written.
    Kill,
    /// Of what was not made durable, any part may be there.
    Power,
}

/// The files as an end leaves them. After a kill the system still has to make
/// durable what isn't yet.
pub(super) type Image = BTreeMap<String, File>;

/// The card that holds one folder.
#[derive(Default)]
pub(super) struct Disk(Mutex<State>);

#[derive(Default)]
struct State {
    files: BTreeMap<String, File>,
    fault: Option<Fault>,
    calls: u64,
    /// At which call it is cut, and the dice for what is left.
    due: Option<(u64, Cut, Dice)>,
    left: Option<(Cut, Image)>,
    dead: bool,
}

#[derive(Clone, Default)]
pub(super) struct File {
    now: Vec<u8>,
    durable: Vec<u8>,
    /// Since it was last made durable.
    pending: Vec<Change>,
}

impl File {
    pub(super) fn len(&self) -> usize {
        self.now.len()
    }

    /// What a power cut leaves: all that was made durable; of the rest nothing,
    /// what came first, or any part.
    fn left(&self, dice: &mut Dice) -> Vec<u8> {
        let mut left = self.durable.clone();
        let whole = match dice.below(3) {
            0 => return left,
            1 => usize::try_from(dice.below(self.pending.len() as u64 + 1)).unwrap_or(0),
            _ => 0,
        };
        self.pending[..whole].iter().for_each(|change| change.apply(&mut left));
        if whole == 0 {
            let torn = self.pending.iter().flat_map(|change| change.torn(dice));
            torn.for_each(|part| part.apply(&mut left));
        }
        left
    }
}

#[derive(Clone)]
pub(super) enum Change {
    Write(usize, Vec<u8>),
    Truncate(usize),
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Change::Write(at, bytes) => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Change::Truncate(len) => to.truncate(*len),
        }
    }

    /// What of it a power cut leaves.
    fn torn(&self, dice: &mut Dice) -> Vec<Change> {
        match (self, dice.below(4)) {
            (_, 0) => Vec::new(),
            (Change::Write(at, bytes), 1) => {
                let mut left = Vec::new();
                let mut from = 0;
                while from < bytes.len() {
                    // Up to the next boundary of a sector of the file.
                    let to = bytes.len().min(from + SECTOR - (at + from) % SECTOR);
                    if dice.chance(50) {
                        left.push(Change::Write(at + from, bytes[from..to].to_vec()));
                    }
                    from = to;
                }
                left
            }
            _ => vec![self.clone()],
        }
    }
}

impl State {
    fn image(&self, cut: Cut, dice: &mut Dice) -> Image {
        let mut image = Image::new();
        for (name, file) in &self.files {
            let left = match cut {
                Cut::Kill => file.clone(),
                Cut::Power => {
                    let now = file.left(dice);
                    File { durable: now.clone(), now, pending: Vec::new() }
                }
            };
            image.insert(name.clone(), left);
        }
        image
    }

    /// One call that changes something: what it fails with, or 0.
    fn call(&mut self, failure: c_int, fault: impl Fn(Fault) -> Option<c_int>) -> c_int {
        if self.dead {
            return failure;
        }
        self.calls += 1;
        if let Some((_, cut, mut dice)) = self.due.take_if(|(at, ..)| *at <= self.calls) {
            self.left = Some((cut, self.image(cut, &mut dice)));
            self.dead = true;
            return failure;
        }
        self.fault.and_then(fault).unwrap_or(sqlite::SQLITE_OK)
    }
}

impl Disk {
    /// A card with these files, in this folder.
    ///
    /// # Errors
    /// When they can't be written there.
    pub(super) fn mount(folder: &Path, image: Image) -> io::Result<Arc<Disk>> {
        vfs();
        std::fs::create_dir_all(folder)?;
        for (name, file) in &image {
            std::fs::write(folder.join(name), &file.now)?;
        }
        let state = State { files: image, ..State::default() };
        let disk = Arc::new(Disk(Mutex::new(state)));
        lock(&DISKS).insert(folder.to_owned(), Arc::clone(&disk));
        Ok(disk)
    }

    pub(super) fn unmount(folder: &Path) {
        lock(&DISKS).remove(folder);
    }

    pub(super) fn fail(&self, fault: Option<Fault>) {
        lock(&self.0).fault = fault;
    }

    /// Cuts it after so many more calls that change something.
    pub(super) fn cut_after(&self, calls: u64, cut: Cut, dice: Dice) {
        let mut state = lock(&self.0);
        state.due = Some((state.calls + calls, cut, dice));
    }

    /// Nothing is cut any more.
    pub(super) fn spare(&self) {
        lock(&self.0).due = None;
    }

    pub(super) fn is_cut(&self) -> bool {
        lock(&self.0).dead
    }

    /// Cuts it now, if that hasn't happened: what ended it, and what is left.
    pub(super) fn end(&self, cut: Cut, dice: &mut Dice) -> (Cut, Image) {
        let mut state = lock(&self.0);
        state.dead = true;
        match state.left.take() {
            Some(left) => left,
            None => (cut, state.image(cut, dice)),
        }
    }

    pub(super) fn calls(&self) -> u64 {
        lock(&self.0).calls
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// By folder.
static DISKS: LazyLock<Mutex<HashMap<PathBuf, Arc<Disk>>>> = LazyLock::new(Mutex::default);

/// An open file: the card, its name, and the system's methods for it.
#[derive(Clone)]
struct Open {
    disk: Arc<Disk>,
    name: String,
    theirs: &'static Methods,
}

/// By the address of SQLite's structure.
static OPEN: LazyLock<Mutex<HashMap<usize, Open>>> = LazyLock::new(Mutex::default);

/// The system's VFS, by its address.
static SYSTEM: OnceLock<usize> = OnceLock::new();

/// The system has methods for files with locks and for those without; ours in
/// their place, by the address of theirs.
struct Methods {
    theirs: sqlite3_io_methods,
    ours: sqlite3_io_methods,
}
static METHODS: LazyLock<Mutex<HashMap<usize, &Methods>>> = LazyLock::new(Mutex::default);

fn methods(at: usize, theirs: sqlite3_io_methods) -> &'static Methods {
    lock(&METHODS).entry(at).or_insert_with(|| {
        let ours = sqlite3_io_methods {
            xClose: Some(close),
            xWrite: Some(write),
            xTruncate: Some(truncate),
            xSync: Some(sync),
            ..theirs
        };
        Box::leak(Box::new(Methods { theirs, ours }))
    })
}

/// Makes ours the one that connections get when they ask for none.
#[expect(unsafe_code, reason = "SQLite's interface for this is C's; tests alone use it")]
fn vfs() {
    static READY: OnceLock<()> = OnceLock::new();
    READY.get_or_init(|| {
        // SAFETY: the system's VFS is there and lives for ever, as ours does,
        // which is the same but for two functions; its own get its own pointer
        // where they need it.
        unsafe {
            let system = sqlite::sqlite3_vfs_find(std::ptr::null());
            let _ = SYSTEM.set(system as usize);
            let ours = sqlite3_vfs {
                zName: c"simulated".as_ptr(),
                pNext: std::ptr::null_mut(),
                xOpen: Some(open),
                xDelete: Some(delete),
                ..*system
            };
            sqlite::sqlite3_vfs_register(Box::into_raw(Box::new(ours)), 1);
        }
    });
}

/// The card that has a file, and the file's name there.
fn place(path: &CStr) -> Option<(Arc<Disk>, String)> {
    let path = Path::new(path.to_str().ok()?);
    let disk = Arc::clone(lock(&DISKS).get(path.parent()?)?);
    Some((disk, path.file_name()?.to_str()?.to_owned()))
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn open(
    _: *mut sqlite3_vfs,
    name: *const c_char,
    file: *mut sqlite3_file,
    flags: c_int,
    out: *mut c_int,
) -> c_int {
    // SAFETY: SQLite gives what xOpen asks for; the system's fills in `file`,
    // whose methods are then replaced by the same but for a few.
    unsafe {
        let Some(system) = SYSTEM.get().map(|at| *at as *mut sqlite3_vfs) else {
            return sqlite::SQLITE_CANTOPEN;
        };
        let place = if name.is_null() { None } else { place(CStr::from_ptr(name)) };
        if let Some((disk, _)) = &place
            && lock(&disk.0).dead
        {
            (*file).pMethods = std::ptr::null();
            return sqlite::SQLITE_CANTOPEN;
        }
        let Some(xopen) = (*system).xOpen else { return sqlite::SQLITE_CANTOPEN };
        let code = xopen(system, name, file, flags, out);
        if code != sqlite::SQLITE_OK || (*file).pMethods.is_null() {
            return code;
        }
        let Some((disk, name)) = place else { return code };
        let methods = methods((*file).pMethods as usize, *(*file).pMethods);
        (*file).pMethods = &methods.ours;
        lock(&disk.0).files.entry(name.clone()).or_default();
        lock(&OPEN).insert(file as usize, Open { disk, name, theirs: methods });
        code
    }
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn delete(_: *mut sqlite3_vfs, name: *const c_char, sync: c_int) -> c_int {
    // SAFETY: SQLite gives a name; the system's function gets what it expects.
    unsafe {
        let Some(system) = SYSTEM.get().map(|at| *at as *mut sqlite3_vfs) else {
            return sqlite::SQLITE_IOERR_DELETE;
        };
        if let Some((disk, name)) = place(CStr::from_ptr(name)) {
            let mut state = lock(&disk.0);
            let fails = |fault| (fault == Fault::Io).then_some(sqlite::SQLITE_IOERR_DELETE);
            let code = state.call(sqlite::SQLITE_IOERR_DELETE, fails);
            if code != sqlite::SQLITE_OK {
                return code;
            }
            state.files.remove(&name);
        }
        (*system).xDelete.map_or(sqlite::SQLITE_IOERR_DELETE, |x| x(system, name, sync))
    }
}

fn opened(file: *mut sqlite3_file) -> Option<Open> {
    lock(&OPEN).get(&(file as usize)).cloned()
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn close(file: *mut sqlite3_file) -> c_int {
    let close = lock(&OPEN).remove(&(file as usize)).and_then(|open| open.theirs.theirs.xClose);
    // SAFETY: the file was opened by the system's VFS.
    close.map_or(sqlite::SQLITE_IOERR, |x| unsafe { x(file) })
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn write(
    file: *mut sqlite3_file,
    bytes: *const c_void,
    len: c_int,
    at: sqlite3_int64,
) -> c_int {
    let Some(Open { disk, name, theirs }) = opened(file) else { return sqlite::SQLITE_IOERR_WRITE };
    let (Ok(size), Ok(begin)) = (usize::try_from(len), usize::try_from(at)) else {
        return sqlite::SQLITE_IOERR_WRITE;
    };
    let mut state = lock(&disk.0);
    let grows = state.files.get(&name).is_none_or(|file| begin + size > file.now.len());
    let code = state.call(sqlite::SQLITE_IOERR_WRITE, |fault| match fault {
        Fault::Io => Some(sqlite::SQLITE_IOERR_WRITE),
        Fault::Full => grows.then_some(sqlite::SQLITE_FULL),
        Fault::Sync => None,
    });
    if code != sqlite::SQLITE_OK {
        return code;
    }
    // SAFETY: SQLite gives so many bytes.
    let copy = unsafe { std::slice::from_raw_parts(bytes.cast::<u8>(), size) }.to_vec();
    change(&mut state, &name, Change::Write(begin, copy));
    // SAFETY: the file was opened by the system's VFS.
    theirs.theirs.xWrite.map_or(sqlite::SQLITE_IOERR_WRITE, |x| unsafe { x(file, bytes, len, at) })
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn truncate(file: *mut sqlite3_file, len: sqlite3_int64) -> c_int {
    let Some(Open { disk, name, theirs }) = opened(file) else {
        return sqlite::SQLITE_IOERR_TRUNCATE;
    };
    let mut state = lock(&disk.0);
    let fails = |fault| (fault == Fault::Io).then_some(sqlite::SQLITE_IOERR_TRUNCATE);
    let code = state.call(sqlite::SQLITE_IOERR_TRUNCATE, fails);
    if code != sqlite::SQLITE_OK {
        return code;
    }
    change(&mut state, &name, Change::Truncate(usize::try_from(len).unwrap_or(0)));
    // SAFETY: the file was opened by the system's VFS.
    theirs.theirs.xTruncate.map_or(sqlite::SQLITE_IOERR_TRUNCATE, |x| unsafe { x(file, len) })
}

fn change(state: &mut State, name: &str, change: Change) {
    let file = state.files.entry(name.to_owned()).or_default();
    change.apply(&mut file.now);
    file.pending.push(change);
}

#[expect(unsafe_code, reason = "called by SQLite")]
unsafe extern "C" fn sync(file: *mut sqlite3_file, _: c_int) -> c_int {
    let Some(Open { disk, name, .. }) = opened(file) else { return sqlite::SQLITE_IOERR_FSYNC };
    let mut state = lock(&disk.0);
    let fails = |fault| (fault != Fault::Full).then_some(sqlite::SQLITE_IOERR_FSYNC);
    let code = state.call(sqlite::SQLITE_IOERR_FSYNC, fails);
    if code == sqlite::SQLITE_OK {
        // The true file is in memory, and nobody cuts that.
        let File { durable, pending, .. } = state.files.entry(name).or_default();
        pending.drain(..).for_each(|change| change.apply(durable));
    }
    code
}
