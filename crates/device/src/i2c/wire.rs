//! One part's place on a bus: what is said to it and heard from it, and what
//! goes wrong, in words.

use std::sync::{Arc, Mutex, PoisonError};

use embedded_hal::i2c::{Error, ErrorKind, I2c, NoAcknowledgeSource};
use reading::Fault;
use rustix::io::Errno;

use crate::Failure;
use crate::worker::Worker;

/// A bus, whoever drives it.
pub(crate) type Line = dyn I2c<Error = BusError> + Send;

/// What the operating system said of a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BusError(pub(crate) Errno);

impl Error for BusError {
    fn kind(&self) -> ErrorKind {
        // The kernel's Documentation/i2c/fault-codes.rst.
        match self.0 {
            Errno::NXIO | Errno::REMOTEIO => ErrorKind::NoAcknowledge(NoAcknowledgeSource::Unknown),
            Errno::AGAIN => ErrorKind::ArbitrationLoss,
            Errno::IO => ErrorKind::Bus,
            _ => ErrorKind::Other,
        }
    }
}

/// Why a part could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    /// The bus could not carry it.
    Bus(BusError),
    /// What came is damaged: its checksum is wrong.
    Corrupt,
    /// It isn't that part, or not in its senses: why, for people.
    Part(Fault, String),
}

impl From<BusError> for Trouble {
    fn from(error: BusError) -> Trouble {
        Trouble::Bus(error)
    }
}

/// One part's place on a bus. A transfer that hangs holds a thread of its own
/// and nobody else.
pub(crate) struct Wire {
    line: Arc<Mutex<Box<Line>>>,
    address: u8,
    worker: Worker,
}

impl Wire {
    pub(crate) fn new(line: Box<Line>, address: u8, worker: Worker) -> Wire {
        Wire { line: Arc::new(Mutex::new(line)), address, worker }
    }

    pub(crate) async fn write<const W: usize>(&self, bytes: [u8; W]) -> Result<(), Trouble> {
        self.transfer(move |line, address| line.write(address, &bytes)).await
    }

    pub(crate) async fn read<const R: usize>(&self) -> Result<[u8; R], Trouble> {
        self.transfer(|line, address| {
            let mut bytes = [0; R];
            line.read(address, &mut bytes).map(|()| bytes)
        })
        .await
    }

    /// Writes and reads without giving up the bus between them: a register's
    /// number, and what is in it.
    pub(crate) async fn write_read<const W: usize, const R: usize>(
        &self,
        what: [u8; W],
    ) -> Result<[u8; R], Trouble> {
        self.transfer(move |line, address| {
            let mut bytes = [0; R];
            line.write_read(address, &what, &mut bytes).map(|()| bytes)
        })
        .await
    }

    async fn transfer<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Line, u8) -> Result<T, BusError> + Send + 'static,
    ) -> Result<T, Trouble> {
        let (line, address) = (self.line.clone(), self.address);
        let work = move || {
            // A transfer that panicked has left nothing half done here.
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            work(&mut **line, address)
        };
        Ok(self.worker.run(work).await?)
    }
}

/// Addresses as data sheets write them; of many the first and the last.
pub(crate) fn hexadecimal(addresses: &[u8]) -> String {
    let hexadecimal = |address: &u8| format!("{address:#04x}");
    match addresses {
        [first, .., last] if addresses.len() > 3 => {
            format!("{first:#04x} to {last:#04x}")
        }
        addresses => addresses.iter().map(hexadecimal).collect::<Vec<_>>().join(" or "),
    }
}

/// What `trouble` with a part at `address` of `bus` means, and the mend.
/// `addresses` are all that such a part can have.
pub(crate) fn failure(bus: &str, address: u8, addresses: &[u8], trouble: &Trouble) -> Failure {
    let at = format!("{address:#04x} on {bus}");
    let error = match trouble {
        Trouble::Part(fault, detail) => return Failure::new(*fault, format!("{at}: {detail}")),
        Trouble::Corrupt => {
            let detail = "what it says is damaged; shorter wires, or a slower bus \
                          (dtparam=i2c_arm_baudrate=10000), may help";
            return Failure::new(Fault::Corrupt, format!("{at}: {detail}"));
        }
        Trouble::Bus(BusError(error)) => *error,
    };
    match error {
        Errno::NXIO | Errno::REMOTEIO | Errno::NODEV => {
            let others: Vec<u8> =
                addresses.iter().copied().filter(|other| *other != address).collect();
            let others = match others.as_slice() {
                [] => String::new(),
                others => format!(", or is it at {}?", hexadecimal(others)),
            };
            let detail = format!(
                "nothing answers at {at}: look at the wiring (SDA, SCL, supply, ground){others}"
            );
            Failure::new(Fault::Absent, detail)
        }
        Errno::BUSY => Failure::new(
            Fault::Busy,
            format!(
                "a driver of the kernel has {at}: use driver = \"iio\" (or \"hwmon\"), or remove \
                 its dtoverlay"
            ),
        ),
        Errno::TIMEDOUT => Failure::new(
            Fault::Timeout,
            format!(
                "{bus} hangs: something holds SDA or SCL down; look at its pull-up resistors and \
                 wiring, and take the supply away for a moment"
            ),
        ),
        Errno::AGAIN => {
            Failure::new(Fault::Busy, format!("another master was faster on {bus} ({at})"))
        }
        Errno::OPNOTSUPP => Failure::new(
            Fault::Io,
            format!("{bus} carries no plain I2C, which the part at {at} needs: use another bus"),
        ),
        error => Failure::io(&at, &error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_told_with_the_mend() {
        let of = |errno| {
            let trouble = Trouble::Bus(BusError(errno));
            failure("/dev/i2c-1", 0x76, &[0x76, 0x77], &trouble).to_string()
        };
        expect_test::expect![[r#"
            nothing answers at 0x76 on /dev/i2c-1: look at the wiring (SDA, SCL, supply, ground), or is it at 0x77?
            nothing answers at 0x76 on /dev/i2c-1: look at the wiring (SDA, SCL, supply, ground), or is it at 0x77?
            a driver of the kernel has 0x76 on /dev/i2c-1: use driver = "iio" (or "hwmon"), or remove its dtoverlay
            /dev/i2c-1 hangs: something holds SDA or SCL down; look at its pull-up resistors and wiring, and take the supply away for a moment
            another master was faster on /dev/i2c-1 (0x76 on /dev/i2c-1)
            /dev/i2c-1 carries no plain I2C, which the part at 0x76 on /dev/i2c-1 needs: use another bus
            0x76 on /dev/i2c-1: Input/output error (os error 5)
        "#]]
        .assert_eq(
            &[
                Errno::NXIO,
                Errno::REMOTEIO,
                Errno::BUSY,
                Errno::TIMEDOUT,
                Errno::AGAIN,
                Errno::OPNOTSUPP,
                Errno::IO,
            ]
            .map(|errno| of(errno) + "\n")
            .concat(),
        );
        let alone = failure("/dev/i2c-1", 0x62, &[0x62], &Trouble::Bus(BusError(Errno::NXIO)));
        assert!(alone.detail.ends_with("ground)"), "{alone}");
        let kind = |errno| BusError(errno).kind();
        assert_eq!(kind(Errno::AGAIN), ErrorKind::ArbitrationLoss);
        assert!(matches!(kind(Errno::REMOTEIO), ErrorKind::NoAcknowledge(_)));
    }
}
