//! RS-485: two wires on which only one may speak. The kernel's driver of the UART
//! switches the transceiver by RTS, to the bit, which no program can
//! (Documentation/driver-api/serial/serial-rs485.rst).

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use reading::Fault;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::Failure;
use crate::settings::Report;

/// linux/serial.h: the flags of `serial_rs485`.
const ENABLED: u32 = 1;
const RTS_ON_SEND: u32 = 1 << 1;
const RTS_AFTER_SEND: u32 = 1 << 2;
const RX_DURING_TX: u32 = 1 << 4;
/// More than a frame takes at 9600 baud is a mistake, and the kernel takes no more.
const DELAY_MAX: Duration = Duration::from_millis(100);

/// How the transceiver is switched.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rs485 {
    /// The level of RTS while something is sent.
    #[serde(default = "yes")]
    rts_on_send: bool,
    /// How long before it; whole milliseconds.
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "String")]
    delay_before: Duration,
    /// How long after it.
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "String")]
    delay_after: Duration,
    /// Whether what is sent is heard as well.
    #[serde(default)]
    rx_during_tx: bool,
}

fn yes() -> bool {
    true
}

/// `struct serial_rs485` of linux/serial.h.
#[repr(C)]
#[derive(Debug, Default, PartialEq)]
struct SerialRs485 {
    flags: u32,
    delay_rts_before_send: u32,
    delay_rts_after_send: u32,
    padding: [u32; 5],
}

impl Rs485 {
    /// Tells what the kernel wouldn't take; gives whether it is sound.
    pub(crate) fn check(&self, report: &mut Report<'_>) -> bool {
        let mut sound = true;
        for (key, delay) in [("delay_before", self.delay_before), ("delay_after", self.delay_after)]
        {
            let fraction = delay.subsec_nanos() % 1_000_000;
            if delay > DELAY_MAX || fraction > 0 {
                report.at(&["rs485", key], "expected whole milliseconds, 0ms to 100ms");
                sound = false;
            }
        }
        sound
    }

    fn settings(&self) -> SerialRs485 {
        let level = if self.rts_on_send { RTS_ON_SEND } else { RTS_AFTER_SEND };
        let hears = if self.rx_during_tx { RX_DURING_TX } else { 0 };
        let millis = |delay: Duration| u32::try_from(delay.as_millis()).unwrap_or(u32::MAX);
        SerialRs485 {
            flags: ENABLED | level | hears,
            delay_rts_before_send: millis(self.delay_before),
            delay_rts_after_send: millis(self.delay_after),
            padding: [0; 5],
        }
    }

    /// Has the kernel switch the port's transceiver. `path` is for errors.
    ///
    /// # Errors
    /// When the port's driver can't.
    pub(crate) fn apply(&self, path: &str, port: &impl AsRawFd) -> Result<(), Failure> {
        let mut settings = self.settings();
        #[expect(unsafe_code, reason = "no safe crate has it; the struct is the kernel's")]
        // SAFETY: the file is open as long as `port` is borrowed, and TIOCSRS485 reads
        // and writes one `struct serial_rs485`, which outlives the call.
        let done = unsafe { libc::ioctl(port.as_raw_fd(), libc::TIOCSRS485, &raw mut settings) };
        if done == 0 {
            return Ok(());
        }
        let error = io::Error::last_os_error();
        Err(match error.raw_os_error() {
            Some(libc::ENOTTY | libc::EINVAL | libc::EOPNOTSUPP) => Failure::new(
                Fault::Io,
                format!(
                    "{path}: the port's driver has no RS-485 mode ({error}); leave `rs485` out if \
                     the adapter switches by itself, as most at USB do"
                ),
            ),
            _ => Failure::io(&format!("{path}: rs485"), &error),
        })
    }
}

#[cfg(test)]
mod tests {
    use rustix::pty::{OpenptFlags, openpt};

    use super::*;

    fn parsed(text: &str) -> Rs485 {
        toml::from_str(text).unwrap()
    }

    #[test]
    fn it_is_the_struct_that_the_kernel_knows() {
        assert_eq!(size_of::<SerialRs485>(), 32);
        let by_default = SerialRs485 { flags: ENABLED | RTS_ON_SEND, ..SerialRs485::default() };
        assert_eq!(parsed("").settings(), by_default);
        let all =
            "rts_on_send = false\ndelay_before = '2ms'\ndelay_after = '3ms'\nrx_during_tx = true";
        assert_eq!(
            parsed(all).settings(),
            SerialRs485 {
                flags: ENABLED | RTS_AFTER_SEND | RX_DURING_TX,
                delay_rts_before_send: 2,
                delay_rts_after_send: 3,
                padding: [0; 5],
            }
        );
    }

    #[test]
    fn a_port_that_has_no_such_mode_is_told_with_the_mend() {
        let pty = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        let refused = parsed("").apply("/dev/pts/1", &pty).unwrap_err();
        assert!(refused.detail.contains("leave `rs485` out"), "{refused}");
    }
}
