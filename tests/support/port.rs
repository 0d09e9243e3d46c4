use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{Mode, OFlags};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{OptionalActions, tcgetattr, tcsetattr};
use tempfile::TempDir;

use super::{PATIENCE, eventually};

/// A serial port made of a pseudo-terminal: the gateway opens one end, the test
/// is the sensor at the other.
///
/// Its path is a symbolic link that stays the same when it is plugged in again,
/// as udev's `by-id` names do.
pub(crate) struct Port {
    dir: TempDir,
    /// The sensor's end; `None` while it is unplugged.
    sensor: Option<File>,
}

impl Port {
    pub(crate) fn new() -> Port {
        let dir = tempfile::Builder::new().prefix("tidemill-port-").tempdir().unwrap();
        let mut port = Port { dir, sensor: None };
        port.plug();
        port
    }

    /// What the configuration names.
    pub(crate) fn path(&self) -> PathBuf {
        self.dir.path().join("usb-sensor")
    }

    /// The configuration of a device `weather` on this port, with one channel
    /// `n`: the field of that name in a JSON line.
    pub(crate) fn config(&self) -> String {
        super::gateway::serial(&self.path())
    }

    /// As if the plug was pulled: the gateway's end is hung up, the name is gone.
    pub(crate) fn unplug(&mut self) {
        self.sensor = None;
        std::fs::remove_file(self.path()).unwrap();
    }

    /// Plugs it in (again), as another device of the kernel under the same name.
    pub(crate) fn plug(&mut self) {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
        let sensor = openpt(flags).unwrap();
        grantpt(&sensor).unwrap();
        unlockpt(&sensor).unwrap();
        let name = ptsname(&sensor, Vec::new()).unwrap();
        let name = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        // Raw before anybody opens it: no echo, no line editing. Opening and
        // closing it once also makes the kernel tell us who comes: see `opened`.
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let other = rustix::fs::open(name, flags, Mode::empty()).unwrap();
        let mut settings = tcgetattr(&other).unwrap();
        settings.make_raw();
        tcsetattr(&other, OptionalActions::Now, &settings).unwrap();
        let nonblocking = OFlags::RDWR | OFlags::NONBLOCK;
        rustix::fs::fcntl_setfl(&sensor, nonblocking).unwrap();
        std::os::unix::fs::symlink(name, self.path()).unwrap();
        self.sensor = Some(File::from(sensor));
    }

    /// Throws away what nobody has read: a gateway that starts again should not
    /// find lines that its predecessor never saw.
    pub(crate) fn plug_again(&mut self) {
        self.unplug();
        self.plug();
    }

    /// Waits until the gateway has opened it and is ready to read: what came
    /// before that a driver may throw away, as half a line.
    #[track_caller]
    pub(crate) fn opened(&self) {
        let sensor = self.sensor.as_ref().expect("plugged in");
        eventually("the gateway opens the port", || {
            let mut fds = [PollFd::new(sensor, PollFlags::OUT)];
            poll(&mut fds, Some(&Timespec::default())).unwrap();
            (!fds[0].revents().contains(PollFlags::HUP)).then_some(())
        });
        // Between opening and reading it sets the speed and flushes.
        std::thread::sleep(Duration::from_millis(300));
    }

    /// Sends bytes; waits while the gateway doesn't read, but not for ever.
    #[track_caller]
    pub(crate) fn write(&mut self, mut bytes: &[u8]) {
        let sensor = self.sensor.as_mut().expect("plugged in");
        while !bytes.is_empty() {
            match sensor.write(bytes) {
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    let mut fds = [PollFd::new(sensor, PollFlags::OUT)];
                    let timeout = Timespec::try_from(PATIENCE).unwrap();
                    let ready = poll(&mut fds, Some(&timeout)).unwrap();
                    assert!(ready > 0, "the gateway doesn't read the port any more");
                }
                Err(error) => panic!("writing to the port: {error}"),
            }
        }
    }

    /// Sends what the line takes now, and says how much that was: none when it is
    /// full because nobody reads.
    pub(crate) fn offer(&mut self, bytes: &[u8]) -> usize {
        self.sensor.as_mut().expect("plugged in").write(bytes).unwrap_or(0)
    }

    #[track_caller]
    pub(crate) fn line(&mut self, line: &str) {
        self.write(format!("{line}\n").as_bytes());
    }

    /// Sends `{"n":i}` for each number, as fast as the gateway reads.
    #[track_caller]
    pub(crate) fn count(&mut self, numbers: std::ops::Range<u64>) {
        for first in numbers.clone().step_by(64) {
            let last = numbers.end.min(first + 64);
            let lines: String = (first..last).map(|n| format!("{{\"n\":{n}}}\n")).collect();
            self.write(lines.as_bytes());
        }
    }

    /// The same at a rate, lines a second.
    #[track_caller]
    pub(crate) fn count_at(&mut self, rate: u32, numbers: std::ops::Range<u64>) {
        let began = Instant::now();
        for (i, n) in numbers.enumerate() {
            let due = Duration::from_secs_f64(i as f64 / f64::from(rate));
            std::thread::sleep(due.saturating_sub(began.elapsed()));
            self.line(&format!("{{\"n\":{n}}}"));
        }
    }

    /// Reads at the other end instead of the gateway, for the benchmark's limit.
    pub(crate) fn open_other_end(&self) -> File {
        File::options().read(true).open(self.path()).unwrap()
    }

    /// What the gateway wrote to the port; a sensor that nobody asks hears
    /// nothing.
    pub(crate) fn heard(&mut self) -> Vec<u8> {
        let mut heard = vec![0; 4096];
        let n = self.sensor.as_mut().expect("plugged in").read(&mut heard).unwrap_or(0);
        heard.truncate(n);
        heard
    }
}
