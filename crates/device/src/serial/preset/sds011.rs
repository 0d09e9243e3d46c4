use super::Preset;

/// Nova Fitness, "Laser PM2.5 sensor specification, SDS011", version 1.3 (2015),
/// "The UART communication protocol": ten bytes a second.
pub(super) const SDS011: Preset = Preset {
    name: "sds011",
    summary: "Nova Fitness SDS011: particulate matter",
    wiring: "3.3 V levels and 5 V supply, or the USB adapter that comes with it.",
    settings: r#"
baud = 9600
frame = { fixed = { length = 10, start = [0xaa, 0xc0], end = [0xab] } }
format = "binary"
endian = "little"
checksum = { kind = "sum8", at = 8, from = 2 }
[channel]
pm25 = { at = 2, type = "u16", scale = 0.1, unit = "ug/m3" }
pm10 = { at = 4, type = "u16", scale = 0.1, unit = "ug/m3" }
"#,
};

#[cfg(test)]
mod tests {
    use crate::serial::preset::tests::{good, read};

    #[test]
    fn a_frame_as_one_sent_it() {
        // Shown in community.particle.io/t/24221; the specification has none.
        let frame = [0xaa, 0xc0, 0x8c, 0x00, 0x94, 0x00, 0xbc, 0xf9, 0xd5, 0xab];
        let both = good(&[("pm10", 14.8), ("pm25", 14.0)]);
        assert_eq!(read("sds011", "", &frame), both);
        // The end of one before it, which holds half a beginning.
        assert_eq!(read("sds011", "", &[&[0xd5, 0xab, 0xaa], &frame[..]].concat()), both);
        let mut damaged = frame;
        damaged[2] ^= 1;
        assert_eq!(read("sds011", "", &damaged), []);
    }
}
