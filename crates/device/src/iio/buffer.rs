//! One chip's buffer, set going and emptied.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use reading::{Datum, Fault, Timestamp, Value};
use rustix::fs::OFlags;
use rustix::io::Errno;

use super::element::{Element, layout};
use crate::scan::{attribute, entries};
use crate::sysfs::{self, written};
use crate::worker::Worker;
use crate::{Batch, Device, Failure, Sample};

/// The most scans that the kernel is asked to keep: at 1 kHz four seconds.
pub(crate) const LENGTH_MAX: u32 = 4096;

/// A channel of ours, and how a number of the kernel's becomes one of people's:
/// (number + offset) × scale × factor.
#[derive(Clone, Debug)]
pub(crate) struct Column {
    /// As the kernel calls it: `accel_x`.
    pub(crate) source: String,
    pub(crate) offset: Option<PathBuf>,
    pub(crate) scale: Option<PathBuf>,
    pub(crate) factor: f64,
}

/// A buffer as it is wanted.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    /// `…/sys/bus/iio/devices/iio:device0`.
    pub(crate) chip: PathBuf,
    /// `/dev/iio:device0`.
    pub(crate) file: PathBuf,
    pub(crate) columns: Vec<Column>,
    /// How many scans the kernel keeps.
    pub(crate) length: u32,
    /// The trigger's name, unless the one that is set is right.
    pub(crate) trigger: Option<String>,
}

/// A buffer that is filled. Dropping it stops that.
pub(crate) struct Buffer {
    chip: PathBuf,
    file: Arc<File>,
    columns: Vec<Column>,
    scan: Scan,
    length: usize,
    /// The beginning of a scan, when a read ended within it.
    rest: Vec<u8>,
    /// It was full the last time.
    full: bool,
    worker: Worker,
}

/// How the bytes of a scan are to be understood.
struct Scan {
    /// Of each column: where it begins, and what it is.
    columns: Vec<(usize, Element)>,
    time: Option<(usize, Element)>,
    bytes: usize,
}

impl Buffer {
    /// Sets the buffer going.
    ///
    /// # Errors
    /// When the chip has none, another program has it, or the kernel refuses.
    pub(crate) async fn start(wanted: Wanted, worker: Worker) -> Result<Buffer, Failure> {
        let started = worker.run(move || {
            let Wanted { chip, columns, length, .. } = wanted.clone();
            let (file, scan) = begin(&wanted)?;
            Ok((chip, file, columns, scan, length))
        });
        let (chip, file, columns, scan, length) = started.await?;
        Ok(Buffer {
            chip,
            file: Arc::new(file),
            columns,
            scan,
            length: length as usize,
            rest: Vec::new(),
            full: false,
            worker,
        })
    }
}

fn begin(wanted: &Wanted) -> Result<(File, Scan), Failure> {
    let Wanted { chip, file: path, columns, length, trigger } = wanted;
    let elements = chip.join("scan_elements");
    if !elements.is_dir() {
        let detail = format!("{} has no buffer: leave `buffer` out", chip.display());
        return Err(Failure::new(Fault::Absent, detail));
    }
    // First, because only one program at a time can have it open.
    let nonblocking = i32::try_from(OFlags::NONBLOCK.bits()).unwrap_or_default();
    let opened = OpenOptions::new().read(true).custom_flags(nonblocking).open(path);
    let file = opened.map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::BUSY) => {
            Failure::new(Fault::Busy, format!("{}: another program has it open", path.display()))
        }
        _ => written(path, &error),
    })?;
    // A gateway that was killed leaves it going, and then nothing can be set.
    set(&chip.join("buffer/enable"), "0")?;
    if let Some(name) = trigger {
        set_trigger(chip, name)?;
    }
    let scan = choose(&elements, columns)?;
    let clock = chip.join("current_timestamp_clock");
    if clock.exists() {
        set(&clock, "realtime")?;
    }
    set(&chip.join("buffer/length"), &length.to_string())?;
    let enable = chip.join("buffer/enable");
    fs::write(&enable, "1").map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::INVAL) if trigger.is_none() => Failure::new(
            Fault::Io,
            format!(
                "{}: the kernel refuses; most chips need a `trigger`: {}",
                enable.display(),
                triggers(chip)
            ),
        ),
        _ => written(&enable, &error),
    })?;
    Ok((file, scan))
}

/// Switches the elements on that are wanted, and the others off.
fn choose(elements: &Path, columns: &[Column]) -> Result<Scan, Failure> {
    let names: Vec<String> = entries(elements, "in_")
        .into_iter()
        .filter_map(|(file, _)| Some(file.strip_suffix("_en")?.to_owned()))
        .collect();
    let wanted = |name: &str| {
        name == "in_timestamp"
            || columns.iter().any(|column| name == format!("in_{}", column.source))
    };
    let (mut on, mut chosen) = (Vec::new(), Vec::new());
    for name in names.iter().filter(|name| wanted(name)) {
        on.push(name.as_str());
        chosen.push(element(elements, name)?);
    }
    let (offsets, bytes) = layout(&chosen);
    let find = |name: &str| {
        let place = on.iter().position(|chosen| *chosen == name)?;
        Some((offsets[place], chosen[place]))
    };
    let column = |column: &Column| {
        find(&format!("in_{}", column.source)).ok_or_else(|| {
            let there: Vec<&str> =
                names.iter().map(|name| name.trim_start_matches("in_")).collect();
            let (source, there) = (&column.source, there.join(", "));
            let detail = format!("{source} can't be buffered, only {there}");
            Failure::new(Fault::Absent, detail)
        })
    };
    let columns = columns.iter().map(column).collect::<Result<_, _>>()?;
    let time = find("in_timestamp");
    for name in &names {
        set(&elements.join(format!("{name}_en")), if wanted(name) { "1" } else { "0" })?;
    }
    Ok(Scan { columns, time, bytes })
}

fn element(elements: &Path, name: &str) -> Result<Element, Failure> {
    let text = attribute(elements, &format!("{name}_type")).unwrap_or_default();
    let index = attribute(elements, &format!("{name}_index")).and_then(|text| text.parse().ok());
    let found = index.and_then(|index| Element::parse(&text, index));
    found.ok_or_else(|| {
        let at = elements.display();
        Failure::new(Fault::Corrupt, format!("{at}/{name}_type: \"{text}\" isn't understood"))
    })
}

fn set_trigger(chip: &Path, name: &str) -> Result<(), Failure> {
    let file = chip.join("trigger/current_trigger");
    fs::write(&file, name).map_err(|error| match Errno::from_io_error(&error) {
        Some(Errno::INVAL | Errno::NOENT | Errno::NODEV) => {
            let detail = format!("there is no trigger {name}: {}", triggers(chip));
            Failure::new(Fault::Absent, detail)
        }
        _ => written(&file, &error),
    })
}

/// The triggers that there are, for people.
fn triggers(chip: &Path) -> String {
    let all = chip.parent().map(|folder| entries(folder, "trigger")).unwrap_or_default();
    let names: Vec<String> = all.iter().filter_map(|(_, path)| attribute(path, "name")).collect();
    match names.as_slice() {
        [] => "there is none; make one with modprobe iio-trig-hrtimer (and configfs)".to_owned(),
        names => format!("there are {}", names.join(", ")),
    }
}

/// Writes a file unless it says so already.
fn set(file: &Path, text: &str) -> Result<(), Failure> {
    if sysfs::text(file).as_deref() == Ok(text) {
        return Ok(());
    }
    fs::write(file, text).map_err(|error| written(file, &error))
}

/// All that is there, `most` bytes at most.
fn drain(mut file: &File, most: usize) -> io::Result<Vec<u8>> {
    let (mut bytes, mut filled) = (vec![0; most], 0);
    while filled < most {
        match file.read(&mut bytes[filled..]) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    bytes.truncate(filled);
    Ok(bytes)
}

impl Buffer {
    fn lost(&self, error: &io::Error) -> Failure {
        let detail = format!("{}: {error}", self.chip.display());
        Failure::new(crate::failure::fault(error), detail)
    }

    /// The bytes that a whole buffer has.
    fn most(&self) -> usize {
        self.length * self.scan.bytes
    }

    /// Understands what was read: all whole scans, each with its own time.
    fn take(&mut self, bytes: Vec<u8>, batch: &mut Batch) {
        self.rest.extend(bytes);
        let scaling: Vec<(f64, f64)> = self.columns.iter().map(Column::scaling).collect();
        let scans = self.rest.chunks_exact(self.scan.bytes);
        let (count, rest) = (scans.len(), scans.remainder().len());
        for bytes in scans {
            let at = self.scan.time.and_then(|(offset, time)| time.value(&bytes[offset..]));
            // The kernel's are nanoseconds.
            let at = at.map(|nanos| Timestamp::from_micros(nanos / 1000));
            for (channel, (offset, element)) in self.scan.columns.iter().enumerate() {
                let (add, times) = scaling[channel];
                let raw = element.value(&bytes[*offset..]);
                let datum = raw.and_then(|raw| Datum::number((raw as f64 + add) * times));
                let value = datum.map_or(Value::Bad(Fault::Corrupt), Value::Good);
                batch.samples.push(Sample { channel, at, value });
            }
        }
        self.rest.drain(..self.rest.len() - rest);
        let full = count >= self.length;
        if full && !self.full {
            let (chip, scans) = (self.chip.display(), self.length);
            tracing::warn!(
                %chip,
                scans,
                "the kernel's buffer was full, so scans may be missing: raise `buffer`, or ask \
                 more often"
            );
        }
        self.full = full;
    }
}

#[async_trait]
impl Device for Buffer {
    /// All scans since the last time.
    async fn read(&mut self, batch: &mut Batch) -> Result<(), Failure> {
        if !self.chip.exists() {
            return Err(self.lost(&Errno::NODEV.into()));
        }
        let (file, most) = (self.file.clone(), self.most());
        match self.worker.run(move || drain(&file, most)).await {
            Ok(bytes) => self.take(bytes, batch),
            Err(error) => return Err(self.lost(&error)),
        }
        Ok(())
    }

    /// What the kernel still keeps is measured, and nobody else will fetch it.
    fn finish(&mut self, batch: &mut Batch) {
        if let Ok(bytes) = drain(&self.file, self.most()) {
            self.take(bytes, batch);
        }
    }
}

impl Column {
    /// What is added to a number, and what it is multiplied by then. Read each
    /// time: a chip may choose its scale itself.
    fn scaling(&self) -> (f64, f64) {
        let number = |path: &Option<PathBuf>, missing| {
            path.as_ref().map_or(missing, |path| sysfs::number(path).unwrap_or(f64::NAN))
        };
        (number(&self.offset, 0.0), number(&self.scale, 1.0) * self.factor)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // Whoever opens it next does the same: nothing is lost if this fails.
        _ = fs::write(self.chip.join("buffer/enable"), "0");
    }
}
