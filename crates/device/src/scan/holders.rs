//! Which process holds a file, a GPIO line or a TCP port, as `/proc` tells it.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A running process.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// The name of its program, 15 characters at most.
    pub name: String,
}

/// Who holds what. Of other users' processes only root sees anything.
#[derive(Clone, Debug, Default)]
pub struct Holders {
    /// Below `/dev`.
    files: HashMap<PathBuf, Process>,
    /// By chip and offset.
    lines: HashMap<(String, u32), Process>,
    /// By TCP port that is listened on.
    ports: HashMap<u16, Process>,
    /// Some processes could not be looked into.
    partial: bool,
}

impl Holders {
    /// Looks into all processes; `root` is `/`, or a folder that looks like it.
    pub fn of(root: &Path) -> Holders {
        let mut holders = Holders::default();
        let listening = listening(root);
        for (name, path) in super::entries(&root.join("proc"), "") {
            let Ok(pid) = name.parse() else { continue };
            let Ok(links) = fs::read_dir(path.join("fd")) else {
                holders.partial = true;
                continue;
            };
            let name = super::attribute(&path, "comm").unwrap_or_default();
            let process = Process { pid, name };
            for link in links.flatten() {
                let Ok(target) = fs::read_link(link.path()) else { continue };
                let text = target.to_string_lossy();
                if text.starts_with("/dev/") {
                    holders.files.insert(target, process.clone());
                } else if text.starts_with("anon_inode:") && text.contains("gpio-line") {
                    let about = path.join("fdinfo").join(link.file_name());
                    for line in lines(&fs::read_to_string(about).unwrap_or_default()) {
                        holders.lines.insert(line, process.clone());
                    }
                } else if let Some(inode) = inode(&text)
                    && let Some(port) = listening.get(&inode)
                {
                    holders.ports.insert(*port, process.clone());
                }
            }
        }
        holders
    }

    /// Of a file below `/dev`, by its canonical path.
    pub fn of_file(&self, path: &Path) -> Option<&Process> {
        self.files.get(path)
    }

    /// Of a line of a GPIO chip such as `gpiochip0`. Kernels before 6.0 don't
    /// tell.
    pub fn of_line(&self, chip: &str, offset: u32) -> Option<&Process> {
        self.lines.get(&(chip.to_owned(), offset))
    }

    /// Of a TCP port that is listened on.
    pub fn of_port(&self, port: u16) -> Option<&Process> {
        self.ports.get(&port)
    }

    /// Whether there are processes that could not be looked into.
    pub fn is_partial(&self) -> bool {
        self.partial
    }
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

fn inode(target: &str) -> Option<u64> {
    target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

/// `linereq_show_fdinfo` of the kernel's drivers/gpio/gpiolib-cdev.c.
fn lines(about: &str) -> Vec<(String, u32)> {
    let value = |key: &'static str| {
        about.lines().filter_map(move |line| line.strip_prefix(key)).map(str::trim)
    };
    let Some(chip) = value("gpio-chip:").next() else { return Vec::new() };
    value("gpio-line:").filter_map(|n| Some((chip.to_owned(), n.parse().ok()?))).collect()
}

/// The ports that are listened on, by the inode of their socket: proc(5),
/// `/proc/net/tcp`.
fn listening(root: &Path) -> HashMap<u64, u16> {
    const LISTEN: &str = "0A";
    let tables = ["proc/net/tcp", "proc/net/tcp6"];
    let text: String =
        tables.iter().filter_map(|table| fs::read_to_string(root.join(table)).ok()).collect();
    let row = |line: &str| {
        let mut fields = line.split_ascii_whitespace();
        let port = fields.nth(1)?.rsplit_once(':')?.1;
        let state = fields.nth(1)?;
        let inode = fields.nth(5)?.parse().ok()?;
        (state == LISTEN).then_some((inode, u16::from_str_radix(port, 16).ok()?))
    };
    text.lines().filter_map(row).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn who_holds_what_is_read_from_proc() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path().join("proc");
        for (pid, comm) in [("812", "python3\n"), ("9", "nginx\n")] {
            fs::create_dir_all(proc.join(pid).join("fd")).unwrap();
            fs::create_dir_all(proc.join(pid).join("fdinfo")).unwrap();
            fs::write(proc.join(pid).join("comm"), comm).unwrap();
        }
        symlink("/dev/ttyUSB0", proc.join("812/fd/3")).unwrap();
        symlink("anon_inode:gpio-line", proc.join("812/fd/4")).unwrap();
        let about = "pos:\t0\ngpio-chip:\tgpiochip0\ngpio-line:\t17\ngpio-line:\t27\n";
        fs::write(proc.join("812/fdinfo/4"), about).unwrap();
        symlink("socket:[4711]", proc.join("9/fd/6")).unwrap();
        fs::create_dir_all(proc.join("net")).unwrap();
        let tcp = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   0: 00000000:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n";
        fs::write(proc.join("net/tcp"), tcp).unwrap();
        fs::create_dir_all(proc.join("1")).unwrap();

        let holders = Holders::of(root.path());
        let python = Process { pid: 812, name: "python3".into() };
        assert_eq!(holders.of_file(Path::new("/dev/ttyUSB0")), Some(&python));
        assert_eq!(holders.of_file(Path::new("/dev/ttyUSB1")), None);
        assert_eq!(holders.of_line("gpiochip0", 27), Some(&python));
        assert_eq!(holders.of_line("gpiochip1", 27), None);
        assert_eq!(holders.of_port(8080).unwrap().to_string(), "nginx (process 9)");
        assert!(holders.is_partial(), "process 1 shows nothing");
    }

    #[test]
    fn this_process_holds_the_port_it_listens_on() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let holders = Holders::of(Path::new("/"));
        assert_eq!(holders.of_port(port).unwrap().pid, std::process::id());
    }
}
