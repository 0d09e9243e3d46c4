//! What a program really asks of the disk, recorded by strace.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;

/// A change of a folder's files, or what makes changes lasting. Names are
/// those within the folder.
#[derive(Clone, Debug)]
pub(super) enum Call {
    /// The file is made if it isn't there. The number is that of the open file.
    Open {
        name: String,
        file: usize,
        cut: bool,
    },
    Write {
        file: usize,
        at: u64,
        bytes: Vec<u8>,
    },
    Size {
        file: usize,
        len: u64,
    },
    /// Of a file, or of the folder.
    Sync {
        file: Option<usize>,
    },
    Rename {
        from: String,
        to: String,
    },
    Unlink {
        name: String,
    },
    /// The program says something about itself: no change.
    Note(String),
}

/// The calls that change files; the question mark is for processors that don't
/// have one of them. Any that isn't understood here ends the test.
const CALLS: &str = "trace=?open,openat,?creat,?openat2,close,write,pwrite64,writev,pwritev,pwritev2,\
    ?truncate,ftruncate,fallocate,fsync,fdatasync,sync_file_range,copy_file_range,\
    ?rename,renameat,renameat2,?unlink,unlinkat,?link,linkat,symlinkat,mkdirat,?mkdir";

/// What tells the recorded program where to work, and what to do.
pub(super) const FOLDER: &str = "TIDEMILL_RECORD";
pub(super) const START: &str = "TIDEMILL_START";

/// Runs one test of this program, which is to change files in `folder` and to
/// write notes about itself beside it, under strace. The trace is kept there too.
pub(super) fn record(test: &str, start: usize, folder: &Path) -> Vec<Call> {
    let trace = folder.with_extension(format!("{start}.strace"));
    let mut strace = Command::new("strace");
    strace.args(["-f", "-qq", "-xx", "-s", "1000000", "--seccomp-bpf", "-e", "signal=none"]);
    strace.args(["-e", CALLS, "-o"]).arg(&trace).arg(std::env::current_exe().unwrap());
    strace.args([test, "--exact", "--nocapture", "--test-threads=1"]);
    strace.env(FOLDER, folder).env(START, start.to_string());
    let output = strace.output().expect("strace can be run: apt-get install strace");
    let said = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{test} under strace: {}\n{said}", output.status);
    parse(&std::fs::read_to_string(trace).unwrap(), folder)
}

/// The file of notes, beside the folder.
pub(super) fn notes(folder: &Path) -> std::path::PathBuf {
    folder.with_extension("notes")
}

struct Parser<'a> {
    folder: &'a Path,
    open: HashMap<u32, Descriptor>,
    files: usize,
    calls: Vec<Call>,
}

enum Descriptor {
    File(usize),
    Folder,
    Notes,
}

/// `-f` puts the thread before each line; a call that another thread's
/// interrupts comes in two parts.
pub(super) fn parse(trace: &str, folder: &Path) -> Vec<Call> {
    let mut parser = Parser { folder, open: HashMap::new(), files: 0, calls: Vec::new() };
    let mut begun: HashMap<&str, &str> = HashMap::new();
    for line in trace.lines() {
        let (thread, line) = line.split_once(' ').unwrap_or_else(|| panic!("{line:?}"));
        let line = line.trim_start();
        // The last: a call that the end of the process interrupted.
        if line.starts_with("+++") || line.starts_with("---") || line.ends_with("<detached ...>") {
            continue;
        }
        if let Some(first) = line.strip_suffix("<unfinished ...>") {
            // Closing has happened before its end is seen: the number may be
            // another file's by then.
            if let Some(number) = first.trim_end().strip_prefix("close(") {
                parser.close(number);
            } else {
                begun.insert(thread, first.trim_end());
            }
        } else if let Some(rest) = line.strip_prefix("<... ") {
            let (name, rest) = rest.split_once(" resumed>").unwrap();
            if name != "close" {
                parser.line(&format!("{}{rest}", begun.remove(thread).unwrap()));
            }
        } else {
            parser.line(line);
        }
    }
    parser.calls
}

impl Parser<'_> {
    fn close(&mut self, number: &str) {
        self.open.remove(&number.trim_end_matches([')', ' ']).parse().unwrap());
    }

    fn line(&mut self, line: &str) {
        let (call, result) = line.rsplit_once(" = ").unwrap_or_else(|| panic!("{line:?}"));
        let (name, arguments) = call.split_once('(').unwrap();
        let arguments = arguments.trim_end().strip_suffix(')').unwrap();
        if name == "close" {
            return self.close(arguments);
        }
        // What failed changed nothing; nor did a call that the end interrupted.
        let Ok(result) = result.split(' ').next().unwrap().parse::<u64>() else { return };
        let arguments: Vec<&str> = arguments.split(", ").collect();
        match name {
            "openat" => self.opened(&text(arguments[1]), arguments[2], result as u32),
            "write" | "pwrite64" => {
                let Some(descriptor) = self.open.get(&number(arguments[0])) else { return };
                let mut bytes = bytes(arguments[1]);
                bytes.truncate(result as usize);
                match descriptor {
                    Descriptor::Notes => {
                        let text = String::from_utf8(bytes).unwrap();
                        self.calls.extend(text.lines().map(|line| Call::Note(line.to_owned())));
                    }
                    Descriptor::File(file) if name == "pwrite64" => {
                        let at = arguments[3].parse().unwrap();
                        self.calls.push(Call::Write { file: *file, at, bytes });
                    }
                    _ => panic!("{name} to a file of the folder isn't understood"),
                }
            }
            "ftruncate" => {
                if let Some(Descriptor::File(file)) = self.open.get(&number(arguments[0])) {
                    let len = arguments[1].parse().unwrap();
                    self.calls.push(Call::Size { file: *file, len });
                }
            }
            "fsync" | "fdatasync" => match self.open.get(&number(arguments[0])) {
                Some(Descriptor::File(file)) => self.calls.push(Call::Sync { file: Some(*file) }),
                Some(Descriptor::Folder) => self.calls.push(Call::Sync { file: None }),
                _ => {}
            },
            "rename" => self.renamed(arguments[0], arguments[1]),
            "renameat" | "renameat2" => self.renamed(arguments[1], arguments[3]),
            "unlink" => self.unlinked(arguments[0]),
            "unlinkat" => self.unlinked(arguments[1]),
            _ => self.other(name, &arguments),
        }
    }

    fn opened(&mut self, path: &str, flags: &str, number: u32) {
        let descriptor = if Path::new(path) == self.folder {
            Descriptor::Folder
        } else if Path::new(path) == notes(self.folder) {
            Descriptor::Notes
        } else if let Some(name) = self.within(path) {
            let file = self.files;
            self.files += 1;
            self.calls.push(Call::Open { name, file, cut: flags.contains("O_TRUNC") });
            Descriptor::File(file)
        } else {
            return;
        };
        self.open.insert(number, descriptor);
    }

    fn renamed(&mut self, from: &str, to: &str) {
        if let (Some(from), Some(to)) = (self.within(&text(from)), self.within(&text(to))) {
            self.calls.push(Call::Rename { from, to });
        }
    }

    fn unlinked(&mut self, path: &str) {
        if let Some(name) = self.within(&text(path)) {
            self.calls.push(Call::Unlink { name });
        }
    }

    /// Fine when it is of no file of the folder.
    fn other(&self, name: &str, arguments: &[&str]) {
        let concerned = arguments.iter().any(|argument| match argument.parse() {
            Ok(number) => matches!(self.open.get(&number), Some(Descriptor::File(_))),
            Err(_) => argument.starts_with('"') && self.within(&text(argument)).is_some(),
        });
        assert!(!concerned, "{name} of a file of the folder isn't understood");
    }

    /// The name of a file of the folder.
    fn within(&self, path: &str) -> Option<String> {
        let name = Path::new(path).strip_prefix(self.folder).ok()?.to_str()?;
        (!name.is_empty() && is_lasting(name)).then(|| name.to_owned())
    }
}

/// Whether a file has anything that outlives a power cut: SQLite makes its shared
/// memory anew, and the lock has no content.
pub(super) fn is_lasting(name: &str) -> bool {
    !name.ends_with("-shm") && !name.ends_with("-lock")
}

fn number(text: &str) -> u32 {
    text.parse().unwrap()
}

fn text(argument: &str) -> String {
    String::from_utf8(bytes(argument)).unwrap()
}

/// `"\x2f\x74"`.
fn bytes(argument: &str) -> Vec<u8> {
    let inner = argument.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let inner = inner.unwrap_or_else(|| panic!("not a whole text: {argument:.40}"));
    let digit = |byte: u8| (byte as char).to_digit(16).unwrap() as u8;
    inner.as_bytes().chunks(4).map(|four| digit(four[2]) << 4 | digit(four[3])).collect()
}

#[test]
fn a_trace_is_read_also_where_threads_interrupt_each_other() {
    let trace = r#"12 openat(AT_FDCWD, "\x2f\x66\x2f\x61", O_RDWR|O_CREAT|O_CLOEXEC, 0644) = 7
12 pwrite64(7, "\x01\xff", 2, 512 <unfinished ...>
13 openat(AT_FDCWD, "\x2f\x66", O_RDONLY|O_CLOEXEC) = 9
12 <... pwrite64 resumed>) = 2
13 fsync(9) = 0
12 close(7 <unfinished ...>
13 openat(AT_FDCWD, "\x2f\x66\x2f\x62", O_RDWR|O_CREAT, 0644) = 7
12 <... close resumed>) = 0
13 ftruncate(7, 3) = 0
13 rename("\x2f\x66\x2f\x62", "\x2f\x66\x2f\x63") = 0
13 unlink("\x2f\x66\x2f\x63") = -1 ENOENT (No such file or directory)
13 unlink("\x2f\x67\x2f\x63") = 0
12 +++ exited with 0 +++
"#;
    let calls: Vec<String> =
        parse(trace, Path::new("/f")).iter().map(|call| format!("{call:?}")).collect();
    let expected = [
        r#"Open { name: "a", file: 0, cut: false }"#,
        "Write { file: 0, at: 512, bytes: [1, 255] }",
        "Sync { file: None }",
        r#"Open { name: "b", file: 1, cut: false }"#,
        "Size { file: 1, len: 3 }",
        r#"Rename { from: "b", to: "c" }"#,
    ];
    assert_eq!(calls, expected);
}
