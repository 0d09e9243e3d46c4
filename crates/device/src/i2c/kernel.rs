//! A bus of Linux, `/dev/i2c-N`: the kernel's Documentation/i2c/dev-interface.rst.
//!
//! A Raspberry Pi's is the same file, which rppal opens as well: one way is
//! enough for all boards.

use std::io;
use std::path::Path;

use embedded_hal::i2c::{ErrorType, I2c, Operation};
use i2cdev::core::{I2CDevice, I2CMessage, I2CTransfer};
use i2cdev::linux::{LinuxI2CDevice, LinuxI2CError, LinuxI2CMessage};
use reading::Fault;
use rustix::io::Errno;

use super::wire::{BusError, Line, Trouble, failure};
use crate::Failure;

/// The most bytes that SMBus carries at once.
const SMBUS_MAX: usize = 32;

struct Kernel(LinuxI2CDevice);

/// Opens the bus for the part at `address`; `addresses` are all that such a part
/// can have.
///
/// # Errors
/// When there is no such bus, it may not be opened, or a driver of the kernel
/// has the address.
pub(crate) fn connect(bus: &str, address: u8, addresses: &[u8]) -> Result<Box<Line>, Failure> {
    let device = match LinuxI2CDevice::new(bus, u16::from(address)) {
        Ok(device) => device,
        Err(error) => {
            let BusError(error) = errno(error);
            return Err(match error {
                Errno::NOENT | Errno::NODEV | Errno::NXIO => absent(bus),
                Errno::ACCESS | Errno::PERM => Failure::new(
                    Fault::Denied,
                    format!(
                        "{bus}: permission denied; add the gateway's user to the group i2c: \
                         usermod -aG i2c USER"
                    ),
                ),
                Errno::NOTTY | Errno::INVAL => {
                    Failure::new(Fault::Absent, format!("{bus} is no I2C bus"))
                }
                error => failure(bus, address, addresses, &Trouble::Bus(BusError(error))),
            });
        }
    };
    Ok(Box::new(Kernel(device)))
}

fn absent(bus: &str) -> Failure {
    let there = crate::scan::entries(Path::new("/dev"), "i2c-");
    let there: Vec<String> =
        there.into_iter().map(|(_, path)| path.display().to_string()).collect();
    let there = match there.as_slice() {
        [] => String::new(),
        there => format!("; there are {}", there.join(", ")),
    };
    let detail = format!(
        "no I2C bus {bus}: switch it on (sudo raspi-config nonint do_i2c 0, or dtparam=i2c_arm=on \
         in /boot/firmware/config.txt), then modprobe i2c-dev{there}"
    );
    Failure::new(Fault::Absent, detail)
}

fn errno(error: LinuxI2CError) -> BusError {
    let number = match error {
        LinuxI2CError::Errno(number) => number,
        LinuxI2CError::Io(error) => error.raw_os_error().unwrap_or(0),
    };
    BusError(Errno::from_io_error(&io::Error::from_raw_os_error(number)).unwrap_or(Errno::IO))
}

impl ErrorType for Kernel {
    type Error = BusError;
}

impl I2c for Kernel {
    /// The address is that of the opening: a part has a file of its own.
    fn transaction(&mut self, _: u8, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        let mut messages: Vec<LinuxI2CMessage<'_>> = operations
            .iter_mut()
            .map(|operation| match operation {
                Operation::Read(bytes) => LinuxI2CMessage::read(bytes),
                Operation::Write(bytes) => LinuxI2CMessage::write(bytes),
            })
            .collect();
        match self.0.transfer(&mut messages).map_err(errno) {
            Ok(_) => Ok(()),
            Err(BusError(Errno::OPNOTSUPP)) => self.smbus(operations),
            Err(error) => Err(error),
        }
    }
}

impl Kernel {
    /// The same over an adapter that carries SMBus alone, as those of PCs do and
    /// the kernel's i2c-stub: a register is read or written.
    fn smbus(&mut self, operations: &mut [Operation<'_>]) -> Result<(), BusError> {
        let unable = BusError(Errno::OPNOTSUPP);
        match operations {
            [Operation::Write([register]), Operation::Read(bytes)] if bytes.len() <= SMBUS_MAX => {
                let count = u8::try_from(bytes.len()).map_err(|_| unable)?;
                let read = self.0.smbus_read_i2c_block_data(*register, count).map_err(errno)?;
                if read.len() != bytes.len() {
                    return Err(BusError(Errno::IO));
                }
                bytes.copy_from_slice(&read);
                Ok(())
            }
            [Operation::Write([register, byte])] => {
                self.0.smbus_write_byte_data(*register, *byte).map_err(errno)
            }
            [Operation::Write([register, bytes @ ..])]
                if (1..=SMBUS_MAX).contains(&bytes.len()) =>
            {
                self.0.smbus_write_i2c_block_data(*register, bytes).map_err(errno)
            }
            _ => Err(unable),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bus_that_is_none_is_told_with_the_mend() {
        let of = |bus: &str| connect(bus, 0x76, &[0x76]).err().unwrap();
        let absent = of("/dev/i2c-97");
        assert_eq!(absent.fault, Fault::Absent);
        assert!(absent.detail.contains("no I2C bus /dev/i2c-97: switch it on"), "{absent}");
        let other = of("/dev/null");
        assert_eq!(
            (other.fault, other.detail.as_str()),
            (Fault::Absent, "/dev/null is no I2C bus")
        );
    }
}
