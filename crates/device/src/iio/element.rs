//! One element of a scan: where it lies in the bytes, and what it says.

/// An element, as `in_X_type` and `in_X_index` describe it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    pub(super) index: u32,
    big_endian: bool,
    signed: bool,
    /// How many of its bits count.
    bits: u32,
    /// How many bytes it takes: 1 to 8.
    bytes: usize,
    /// How often it is repeated.
    repeat: usize,
    /// How many bits below don't count.
    shift: u32,
}

impl Element {
    /// `le:s12/16>>4`, or `be:s16/16X4>>0`; `None` for what isn't understood.
    pub(super) fn parse(text: &str, index: u32) -> Option<Element> {
        let (endian, rest) = text.split_once(':')?;
        let signed = match rest.get(..1)? {
            "s" => true,
            "u" => false,
            _ => return None,
        };
        let (bits, rest) = rest.get(1..)?.split_once('/')?;
        let (storage, shift) = rest.split_once(">>")?;
        let (storage, repeat) = match storage.split_once('X') {
            Some((storage, repeat)) => (storage, repeat.parse().ok()?),
            None => (storage, 1),
        };
        let (bits, storage): (u32, u32) = (bits.parse().ok()?, storage.parse().ok()?);
        let shift: u32 = shift.parse().ok()?;
        let fits = matches!(storage, 8 | 16 | 24 | 32 | 64) && bits > 0 && bits + shift <= storage;
        let big_endian = match endian {
            "be" => true,
            "le" => false,
            _ => return None,
        };
        let bytes = (storage / 8) as usize;
        (fits && repeat > 0).then_some(Element {
            index,
            big_endian,
            signed,
            bits,
            bytes,
            repeat,
            shift,
        })
    }

    /// The bytes of the element itself, of which there may be several.
    fn length(&self) -> usize {
        self.bytes * self.repeat
    }

    /// What the bytes that begin here say.
    pub(super) fn value(&self, bytes: &[u8]) -> Option<i64> {
        let bytes = bytes.get(..self.bytes)?;
        let push = |word: u64, byte: &u8| word << 8 | u64::from(*byte);
        let word = match self.big_endian {
            true => bytes.iter().fold(0, push),
            false => bytes.iter().rev().fold(0, push),
        };
        // Up to the top, and down again: with its sign, and without what stands above.
        let top = word >> self.shift << (64 - self.bits);
        Some(match self.signed {
            true => top.cast_signed() >> (64 - self.bits),
            false => (top >> (64 - self.bits)).cast_signed(),
        })
    }
}

/// Where each element begins, in the order given, and how long a whole scan is:
/// each is aligned to its own length, and the whole to that of the longest
/// (`iio_compute_scan_bytes` of the kernel's industrialio-buffer.c).
pub(super) fn layout(elements: &[Element]) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..elements.len()).collect();
    order.sort_by_key(|place| elements[*place].index);
    let (mut offsets, mut end, mut longest) = (vec![0; elements.len()], 0_usize, 1);
    for place in order {
        let length = elements[place].length();
        offsets[place] = end.next_multiple_of(length);
        end = offsets[place] + length;
        longest = longest.max(length);
    }
    (offsets, end.next_multiple_of(longest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn element(text: &str) -> Element {
        Element::parse(text, 0).unwrap()
    }

    #[test]
    fn bits_are_found_where_they_lie() {
        // The kernel's own example: 12 bits, left-aligned in 16.
        assert_eq!(element("le:s12/16>>4").value(&[0xf0, 0x7f]), Some(2047));
        assert_eq!(element("le:s12/16>>4").value(&[0x0f, 0x80]), Some(-2048));
        assert_eq!(element("be:u12/16>>4").value(&[0x80, 0x0f]), Some(2048));
        assert_eq!(element("be:s24/32>>8").value(&[0xff, 0xff, 0xff, 0x12]), Some(-1));
        assert_eq!(element("le:u8/8>>0").value(&[0xff]), Some(255));
        assert_eq!(element("le:s64/64>>0").value(&[0xff; 8]), Some(-1));
        assert_eq!(element("le:u16/32>>0").value(&[1, 2, 3, 4]), Some(0x0201), "what is above");
        assert_eq!(element("le:s16/16>>0").value(&[1]), None);
    }

    #[test]
    fn what_is_no_type_is_none() {
        for text in [
            "",
            "le",
            "le:",
            "le:s",
            "xe:s8/8>>0",
            "le:q8/8>>0",
            "le:s9/8>>0",
            "le:s8/8>>1",
            "le:s8/12>>0",
            "le:s0/8>>0",
            "le:s8/8X0>>0",
            "le:s8/8",
            "le:s8/8>>x",
            "é:s8/8>>0",
        ] {
            assert_eq!(Element::parse(text, 0), None, "{text}");
        }
    }

    #[test]
    fn each_is_aligned_to_its_own_length() {
        let of = |texts: &[(&str, u32)]| {
            let elements: Vec<Element> =
                texts.iter().map(|(text, index)| Element::parse(text, *index).unwrap()).collect();
            layout(&elements)
        };
        // An accelerometer's three axes and the time.
        let axes = [("le:s12/16>>4", 0), ("le:s12/16>>4", 1), ("le:s12/16>>4", 2)];
        let timed = [axes.as_slice(), &[("le:s64/64>>0", 3)]].concat();
        assert_eq!(of(&timed), (vec![0, 2, 4, 8], 16));
        assert_eq!(of(&axes), (vec![0, 2, 4], 6));
        // The index decides, not the order here; a quaternion is one of 16 bytes.
        assert_eq!(of(&[("le:s32/32>>0", 5), ("le:u8/8>>0", 1)]), (vec![4, 0], 8));
        assert_eq!(of(&[("le:u8/8>>0", 0), ("le:s32/32X4>>0", 1)]), (vec![0, 16], 32));
    }
}
