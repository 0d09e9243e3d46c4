//! PWM chips of the kernel, on every board: its Documentation/driver-api/pwm.rst.

use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use reading::Fault;
use rustix::io::Errno;
use tokio::time::{Instant, sleep};

use super::{Pulses, Pwm};
use crate::Failure;
use crate::scan::entries;
use crate::sysfs::{number, written};

const FOLDER: &str = "sys/class/pwm";
/// After the export udev gives the files to the group: until then they are
/// root's.
const UDEV_PATIENCE: Duration = Duration::from_secs(2);
const UDEV_ASKED_EVERY: Duration = Duration::from_millis(20);

struct Kernel {
    /// `…/pwmchip0/pwm1`.
    path: PathBuf,
    /// In nanoseconds.
    period: u64,
    active_low: bool,
}

/// Takes channels of one chip: its entry (`pwmchip0`), or the name of its device
/// (`fe20c000.pwm`), which stays the same.
///
/// # Errors
/// When there is no such chip or channel, another holds it, or it can't make
/// such pulses.
pub(crate) async fn open(
    root: &Path,
    chip: &str,
    wanted: &Pulses,
) -> Result<Box<dyn Pwm>, Failure> {
    let at = find(root, chip)?;
    let Pulses { channel, frequency, active_low, initial } = *wanted;
    let path = at.join(format!("pwm{channel}"));
    if !path.exists() {
        let export = at.join("export");
        fs::write(&export, channel.to_string()).map_err(|error| refused(&at, channel, &error))?;
    }
    let since = Instant::now();
    let mut kernel = Kernel { path, period: (1e9 / frequency).round() as u64, active_low };
    loop {
        match kernel.begin(initial) {
            Err(failure) if failure.fault == Fault::Denied && since.elapsed() < UDEV_PATIENCE => {
                sleep(UDEV_ASKED_EVERY).await;
            }
            Err(failure) => return Err(failure),
            Ok(()) => return Ok(Box::new(kernel)),
        }
    }
}

fn find(root: &Path, chip: &str) -> Result<PathBuf, Failure> {
    let chips = entries(&root.join(FOLDER), "pwmchip");
    let device = |path: &Path| {
        let device = fs::canonicalize(path.join("device")).ok()?;
        Some(device.file_name()?.to_str()?.to_owned())
    };
    let found =
        chips.iter().find(|(entry, path)| entry == chip || device(path).as_deref() == Some(chip));
    let there = || chips.iter().map(|(entry, _)| entry.as_str()).collect::<Vec<_>>().join(", ");
    match found {
        Some((_, path)) => Ok(path.clone()),
        None if chips.is_empty() => Err(Failure::new(
            Fault::Absent,
            "the kernel shows no PWM chip; add dtoverlay=pwm (or pwm-2chan) to \
             /boot/firmware/config.txt and start again",
        )),
        None => Err(Failure::new(
            Fault::Absent,
            format!("there is no PWM chip {chip}; there are {}", there()),
        )),
    }
}

/// The kernel doesn't give the channel.
fn refused(chip: &Path, channel: u32, error: &io::Error) -> Failure {
    let at = chip.display();
    match Errno::from_io_error(error) {
        // drivers/pwm/sysfs.c: a number beyond the last is -ENODEV, once -EINVAL.
        Some(Errno::NODEV | Errno::INVAL) => {
            let count = number(&chip.join("npwm")).unwrap_or_default();
            let last = (count - 1.0).max(0.0);
            let detail = format!("{at} has no channel {channel}: they are 0 to {last}");
            Failure::new(Fault::Absent, detail)
        }
        Some(Errno::BUSY) => {
            let detail = format!("channel {channel} of {at} is held by a driver of the kernel");
            Failure::new(Fault::Busy, detail)
        }
        _ => written(&chip.join("export"), error),
    }
}

impl Kernel {
    /// Sets the pulses going, without a gap when they already do.
    fn begin(&mut self, initial: f64) -> Result<(), Failure> {
        if self.get("period")? != self.period {
            // A period below the pulse's length is refused, so that goes first.
            if self.get("duty_cycle")? != 0 {
                self.put("duty_cycle", 0)?;
            }
            self.put("period", self.period)?;
        }
        self.set(initial)?;
        if self.get("enable")? == 0 {
            self.put("enable", 1)?;
        }
        Ok(())
    }

    fn get(&self, file: &str) -> Result<u64, Failure> {
        let path = self.path.join(file);
        let found = number(&path).map(|number| number as u64);
        found.map_err(|fault| {
            Failure::new(fault, format!("{} can't be read: {fault}", path.display()))
        })
    }

    fn put(&self, file: &str, value: u64) -> Result<(), Failure> {
        let path = self.path.join(file);
        fs::write(&path, value.to_string()).map_err(|error| {
            let at = path.display();
            match Errno::from_io_error(&error) {
                Some(Errno::INVAL | Errno::RANGE) if file == "period" => Failure::new(
                    Fault::Io,
                    format!("{at}: the chip can't make this `frequency`; try another"),
                ),
                _ => written(&path, &error),
            }
        })
    }
}

impl Pwm for Kernel {
    fn share(&mut self) -> Result<f64, Failure> {
        let share = self.get("duty_cycle")? as f64 / self.period as f64;
        Ok(if self.active_low { 1.0 - share } else { share })
    }

    fn set(&mut self, share: f64) -> Result<(), Failure> {
        let share = if self.active_low { 1.0 - share } else { share };
        self.put("duty_cycle", (share * self.period as f64).round() as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sysfs::tree;

    const CHANNEL: &str = "sys/class/pwm/pwmchip0/pwm1";

    /// A chip of two channels, the second of which is exported.
    fn board(period: &str, duty: &str, enable: &str) -> tempfile::TempDir {
        let file = |name: &str| format!("{CHANNEL}/{name}");
        let root = tree(&[
            ("sys/class/pwm/pwmchip0/npwm", "2\n"),
            ("sys/class/pwm/pwmchip0/export", ""),
            (&file("period"), period),
            (&file("duty_cycle"), duty),
            (&file("enable"), enable),
            ("sys/devices/platform/fe20c000.pwm/x", ""),
        ]);
        let device = root.path().join("sys/devices/platform/fe20c000.pwm");
        std::os::unix::fs::symlink(device, root.path().join("sys/class/pwm/pwmchip0/device"))
            .unwrap();
        root
    }

    fn shown(root: &Path) -> [String; 3] {
        ["period", "duty_cycle", "enable"]
            .map(|file| fs::read_to_string(root.join(CHANNEL).join(file)).unwrap())
    }

    const WANTED: Pulses =
        Pulses { channel: 1, frequency: 25_000.0, active_low: false, initial: 0.25 };

    #[tokio::test]
    async fn pulses_are_as_long_as_they_are_to_be() {
        let root = board("0\n", "0\n", "0\n");
        let mut pwm = open(root.path(), "fe20c000.pwm", &WANTED).await.unwrap();
        assert_eq!(shown(root.path()), ["40000", "10000", "1"]);
        assert_eq!(pwm.share().unwrap(), 0.25);
        pwm.set(1.0).unwrap();
        assert_eq!((pwm.share().unwrap(), shown(root.path())[1].as_str()), (1.0, "40000"));
        let low = Pulses { active_low: true, ..WANTED };
        let mut pwm = open(root.path(), "pwmchip0", &low).await.unwrap();
        assert_eq!((pwm.share().unwrap(), shown(root.path())[1].as_str()), (0.25, "30000"));
    }

    #[tokio::test]
    async fn what_runs_goes_on_without_a_gap() {
        let root = board("40000\n", "30000\n", "1\n");
        let mut pwm = open(root.path(), "pwmchip0", &WANTED).await.unwrap();
        assert_eq!(pwm.share().unwrap(), 0.25);
        assert_eq!(shown(root.path()), ["40000\n", "10000", "1\n"], "the length alone");
        let longer = Pulses { frequency: 50_000.0, ..WANTED };
        open(root.path(), "pwmchip0", &longer).await.unwrap();
        assert_eq!(shown(root.path()), ["20000", "5000", "1\n"]);
    }

    #[tokio::test]
    async fn what_is_not_there_is_told_with_the_mend() {
        let of = async |root: &Path, chip: &str| open(root, chip, &WANTED).await.err().unwrap();
        let nothing = of(tree(&[]).path(), "pwmchip0").await;
        assert!(nothing.detail.contains("dtoverlay=pwm"), "{nothing}");
        let root = board("0\n", "0\n", "0\n");
        let other = of(root.path(), "pwmchip7").await;
        assert_eq!(other.detail, "there is no PWM chip pwmchip7; there are pwmchip0");
        let chip = Path::new("/sys/class/pwm/pwmchip0");
        let said = |errno: Errno| refused(chip, 4, &errno.into()).to_string();
        assert!(said(Errno::BUSY).contains("held by a driver of the kernel"));
        assert!(said(Errno::NODEV).contains("has no channel 4"));
        assert!(said(Errno::ACCESS).contains("udev rule"));
        assert!(said(Errno::ROFS).contains("ReadWritePaths=/sys/devices"));
    }
}
