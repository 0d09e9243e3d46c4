//! SQLite's file read without SQLite, page by page: what a damaged file still
//! has. <https://www.sqlite.org/fileformat2.html>, sections 1.5 to 2.1 and 4.
//!
//! Neither the schema nor the pages that lead to a page are needed: each leaf
//! is taken for itself, so that a page at fault costs its own rows alone.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Cell {
    Null,
    Integer(i64),
    Real(f64),
    Text(String),
}

/// A row as it lies on a page: the number of the row, unless the table has none.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Row {
    pub(crate) number: Option<i64>,
    pub(crate) cells: Vec<Cell>,
}

/// The pages of a file, newest state first from the log beside it.
pub(crate) struct Pages {
    file: Option<File>,
    log: Option<File>,
    size: usize,
    count: u32,
    /// Where in the log a page is.
    logged: HashMap<u32, u64>,
}

/// The longest row that is put together, bytes: a text far beyond what a device
/// sends.
const ROW_MAX: usize = 1 << 20;

/// Of the header of the log, of a frame, and of a file, bytes.
const LOG_HEADER: u64 = 32;
const FRAME_HEADER: u64 = 24;
const FILE_HEADER: usize = 100;

impl Pages {
    /// What can be opened of the two; `size` is used where neither tells it.
    pub(crate) fn open(path: &Path, log: &Path, size: usize) -> Pages {
        let file = File::open(path).ok();
        let log = File::open(log).ok();
        let mut pages = Pages { file, log, size, count: 0, logged: HashMap::new() };
        let told = pages.told_size();
        pages.size = told.unwrap_or(size);
        let len = pages.file.as_ref().and_then(|file| file.metadata().ok()).map_or(0, |m| m.len());
        pages.count = u32::try_from(len.div_ceil(pages.size as u64)).unwrap_or(u32::MAX);
        pages.read_log();
        pages.count = pages.logged.keys().copied().max().unwrap_or(0).max(pages.count);
        pages
    }

    /// The highest number of a page; the first is 1.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of a page.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    fn told_size(&self) -> Option<usize> {
        let mut head = [0; 20];
        let valid = |size: usize| (512..=65_536).contains(&size) && size.is_power_of_two();
        if let Some(file) = &self.file
            && file.read_exact_at(&mut head, 0).is_ok()
            && head.starts_with(b"SQLite format 3\0")
        {
            let size = usize::from(u16::from_be_bytes([head[16], head[17]]));
            let size = if size == 1 { 65_536 } else { size };
            if valid(size) {
                return Some(size);
            }
        }
        self.log.as_ref()?.read_exact_at(&mut head, 0).ok()?;
        let size = usize::try_from(big(&head[8..12])).ok()?;
        valid(size).then_some(size)
    }

    /// Finds the pages of the log. Frames after one at fault are taken too, as
    /// long as they are of the same round: what is on them is checked row by row.
    fn read_log(&mut self) {
        let Some(log) = &self.log else { return };
        // The header tells the round, and the first frame if that is at fault.
        for told in [16, LOG_HEADER + 8] {
            let mut round = [0; 8];
            if log.read_exact_at(&mut round, told).is_err() || !self.logged.is_empty() {
                return;
            }
            let mut at = LOG_HEADER;
            let mut head = [0; FRAME_HEADER as usize];
            while log.read_exact_at(&mut head, at).is_ok() {
                let page = big(&head[0..4]);
                if head[8..16] == round && page > 0 {
                    self.logged.insert(page, at + FRAME_HEADER);
                }
                at += FRAME_HEADER + self.size as u64;
            }
        }
    }

    /// The bytes of pages `first` to `last`; what can't be read is zeros.
    pub(crate) fn read(&self, first: u32, last: u32) -> Vec<u8> {
        let mut bytes = vec![0; self.size * (last + 1 - first) as usize];
        let at = u64::from(first - 1) * self.size as u64;
        if let Some(file) = &self.file
            && file.read_exact_at(&mut bytes, at).is_err()
        {
            // Page by page: one that the card can't give, or the end.
            bytes.fill(0);
            for (n, page) in bytes.chunks_mut(self.size).enumerate() {
                let fits = read_up_to(file, page, at + (n * self.size) as u64);
                if fits.is_err() {
                    page.fill(0);
                }
            }
        }
        if let (Some(log), false) = (&self.log, self.logged.is_empty()) {
            for (number, page) in (first..=last).zip(bytes.chunks_mut(self.size)) {
                if let Some(at) = self.logged.get(&number)
                    && log.read_exact_at(page, *at).is_err()
                {
                    page.fill(0);
                }
            }
        }
        bytes
    }

    /// The rows of a page, as far as they can be made out.
    pub(crate) fn rows(&self, number: u32, page: &[u8]) -> Vec<Row> {
        let begin = if number == 1 { FILE_HEADER } else { 0 };
        let Some(head) = page.get(begin..begin + 8) else { return Vec::new() };
        // A leaf of a table; a leaf and an inner page of one without row numbers.
        let (cells, child, table) = match head[0] {
            0x0d => (8, 0, true),
            0x0a => (8, 0, false),
            0x02 => (12, 4, false),
            _ => return Vec::new(),
        };
        let count = usize::from(u16::from_be_bytes([head[3], head[4]]));
        let mut rows = Vec::with_capacity(count.min(self.size / 4));
        let mut last = i64::MIN;
        for n in 0..count.min(self.size / 4) {
            let at = begin + cells + 2 * n;
            let Some(pointer) = page.get(at..at + 2) else { break };
            let pointer = usize::from(u16::from_be_bytes([pointer[0], pointer[1]]));
            let Some(row) = self.row(page, pointer + child, table) else { continue };
            // Rows of a table ascend: one that doesn't is none.
            if let Some(number) = row.number {
                if number <= last {
                    continue;
                }
                last = number;
            }
            rows.push(row);
        }
        rows
    }

    fn row(&self, page: &[u8], mut at: usize, table: bool) -> Option<Row> {
        let (len, used) = varint(page.get(at..)?)?;
        at += used;
        let mut number = None;
        if table {
            let (rowid, used) = varint(page.get(at..)?)?;
            at += used;
            number = Some(rowid.cast_signed());
        }
        let len = usize::try_from(len).ok().filter(|len| *len <= ROW_MAX)?;
        let cells = match self.local(len, table) {
            None => record(page.get(at..at + len)?)?,
            Some(local) => {
                let mut payload = page.get(at..at + local)?.to_vec();
                let next = page.get(at + local..at + local + 4)?;
                self.overflow(big(next), len, &mut payload)?;
                // No device sends a zero in a text: a page that was overwritten.
                record(&payload).filter(|cells| !cells.iter().any(has_zero))?
            }
        };
        Some(Row { number, cells })
    }

    /// How much of a long row is on the page itself: section 1.6.
    fn local(&self, len: usize, table: bool) -> Option<usize> {
        let max = if table { self.size - 35 } else { (self.size - 12) * 64 / 255 - 23 };
        let min = (self.size - 12) * 32 / 255 - 23;
        if len <= max {
            return None;
        }
        let local = min + (len - min) % (self.size - 4);
        Some(if local <= max { local } else { min })
    }

    fn overflow(&self, mut page: u32, len: usize, payload: &mut Vec<u8>) -> Option<()> {
        while payload.len() < len {
            if page == 0 || page > self.count {
                return None;
            }
            let bytes = self.read(page, page);
            let part = (len - payload.len()).min(self.size - 4);
            payload.extend_from_slice(&bytes[4..4 + part]);
            page = big(&bytes[0..4]);
        }
        Some(())
    }
}

fn has_zero(cell: &Cell) -> bool {
    matches!(cell, Cell::Text(text) if text.contains('\0'))
}

/// The last page of a cut file may be shorter.
fn read_up_to(file: &File, page: &mut [u8], at: u64) -> io::Result<()> {
    let mut filled = 0;
    while filled < page.len() {
        match file.read_at(&mut page[filled..], at + filled as u64)? {
            0 => break,
            n => filled += n,
        }
    }
    Ok(())
}

fn big(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0, |number, byte| number << 8 | u32::from(*byte))
}

/// A number of 1 to 9 bytes, and how many they are.
fn varint(bytes: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (n, byte) in bytes.iter().take(8).enumerate() {
        number = number << 7 | u64::from(byte & 0x7f);
        if byte & 0x80 == 0 {
            return Some((number, n + 1));
        }
    }
    Some((number << 8 | u64::from(*bytes.get(8)?), 9))
}

/// Section 2.1; blobs, which no table has, make it none.
fn record(payload: &[u8]) -> Option<Vec<Cell>> {
    let (header, mut at) = varint(payload)?;
    let header = usize::try_from(header).ok().filter(|len| *len <= payload.len())?;
    let mut body = header;
    let mut cells = Vec::new();
    while at < header {
        let (kind, used) = varint(payload.get(at..header)?)?;
        at += used;
        let len = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            13.. if kind % 2 == 1 => usize::try_from((kind - 13) / 2).ok()?,
            _ => return None,
        };
        let bytes = payload.get(body..body.checked_add(len)?)?;
        body += len;
        cells.push(match kind {
            0 => Cell::Null,
            8 => Cell::Integer(0),
            9 => Cell::Integer(1),
            7 => Cell::Real(f64::from_be_bytes(bytes.try_into().ok()?)),
            1..=6 => Cell::Integer(integer(bytes)),
            _ => Cell::Text(String::from_utf8(bytes.to_vec()).ok()?),
        });
    }
    (body == payload.len()).then_some(cells)
}

/// Two's complement of any length.
fn integer(bytes: &[u8]) -> i64 {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { -1 } else { 0 };
    bytes.iter().fold(sign, |number, byte| number << 8 | i64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_as_the_format_says() {
        // Header of 6 bytes: NULL, 1 byte, 6 bytes, a float, the constant 1.
        let mut bytes = vec![6, 0, 1, 5, 7, 9, 0xff];
        bytes.extend([0, 0, 0, 0, 1, 0]);
        bytes.extend(21.5f64.to_be_bytes());
        let expected =
            [Cell::Null, Cell::Integer(-1), Cell::Integer(256), Cell::Real(21.5), Cell::Integer(1)];
        assert_eq!(record(&bytes).unwrap(), expected);
        assert_eq!(record(&bytes[..10]), None, "cut");
        assert_eq!(record(&[2, 12]), None, "a blob");
        assert_eq!(record(&[3, 0x13, 0x0f, b'o', b'f', b'f', b'x']).unwrap().len(), 2);
    }

    #[test]
    fn a_varint_has_up_to_nine_bytes() {
        assert_eq!(varint(&[0x7f]), Some((127, 1)));
        assert_eq!(varint(&[0x81, 0x00]), Some((128, 2)));
        assert_eq!(varint(&[0xff; 9]), Some((u64::MAX, 9)));
        assert_eq!(varint(&[0xff; 8]), None);
    }

    #[test]
    fn noise_gives_no_rows_and_no_panic() {
        let pages =
            Pages { file: None, log: None, size: 512, count: 9, logged: HashMap::default() };
        let mut noise = 0x9e37_79b9_7f4a_7c15_u64;
        for round in 0..2_000 {
            let mut page: Vec<u8> = (0..512)
                .map(|_| {
                    noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    (noise >> 33) as u8
                })
                .collect();
            page[0] = [0x0d, 0x0a, 0x02][round % 3];
            pages.rows(2, &page);
        }
    }
}
