//! Words as Sensirion's parts send them: two bytes, the higher first, and a
//! checksum (data sheet of the SHT3x-DIS, section 4.12; of the SCD4x, 3.12).

use super::Trouble;

/// CRC-8 with the polynomial 0x31 and the initial value 0xff.
fn crc(bytes: [u8; 2]) -> u8 {
    bytes.into_iter().fold(0xff, |crc, byte| {
        (0..8).fold(crc ^ byte, |crc, _| if crc & 0x80 != 0 { crc << 1 ^ 0x31 } else { crc << 1 })
    })
}

/// The words in `bytes`, three bytes each.
///
/// # Errors
/// When a checksum is wrong.
pub(super) fn words<const N: usize>(bytes: &[u8]) -> Result<[u16; N], Trouble> {
    let mut words = [0; N];
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(3)) {
        let pair = [bytes[0], bytes[1]];
        if crc(pair) != bytes[2] {
            return Err(Trouble::Corrupt);
        }
        *word = u16::from_be_bytes(pair);
    }
    Ok(words)
}

/// A command with one word.
pub(super) fn command(code: u16, word: u16) -> [u8; 5] {
    let ([a, b], pair) = (code.to_be_bytes(), word.to_be_bytes());
    [a, b, pair[0], pair[1], crc(pair)]
}

/// -45 °C to 130 °C over all of a word.
pub(super) fn celsius(word: u16) -> f64 {
    f64::from(word) / 65535.0 * 175.0 - 45.0
}

/// 0 to 100 % over all of a word.
pub(super) fn percent(word: u16) -> f64 {
    f64::from(word) / 65535.0 * 100.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_sheets_examples() {
        assert_eq!(crc([0xbe, 0xef]), 0x92);
        assert_eq!(words([0xbe, 0xef, 0x92].as_slice()), Ok([0xbeef]));
        assert_eq!(words::<1>([0xbe, 0xee, 0x92].as_slice()), Err(Trouble::Corrupt));
        // SCD4x, set_sensor_altitude: 1,950 m.
        assert_eq!(command(0x2427, 1950), [0x24, 0x27, 0x07, 0x9e, 0x09]);
    }
}
