use super::Preset;

/// Winsen, "MH-Z19B User's Manual", version 1.0, page 7: the question 0x86 and
/// its answer. The temperature is not in it, but all of them send it.
pub(super) const MH_Z19: Preset = Preset {
    name: "mh-z19",
    summary: "Winsen MH-Z19, MH-Z19B, MH-Z19C: carbon dioxide",
    wiring: "3.3 V levels; Vin takes 5 V. The sensor's Tx goes to our Rx. It needs three minutes to warm up.",
    settings: r#"
baud = 9600
poll = "10s"
request = [0xff, 0x01, 0x86, 0x00, 0x00, 0x00, 0x00, 0x00, 0x79]
frame = { fixed = { length = 9, start = [0xff, 0x86] } }
format = "binary"
checksum = { kind = "sum8-complement", from = 1 }
[channel]
co2 = { at = 2, type = "u16", unit = "[ppm]" }
[more]
temperature = { at = 4, type = "u8", offset = -40, unit = "Cel" }
"#,
};

#[cfg(test)]
mod tests {
    use crate::serial::preset::tests::{good, read};

    #[test]
    fn the_answer_of_the_manual() {
        let answer = [0xff, 0x86, 0x02, 0x20, 0x00, 0x00, 0x00, 0x00, 0x58];
        assert_eq!(read("mh-z19", "", &answer), good(&[("co2", 544.0)]));
        let mut damaged = answer;
        damaged[3] ^= 1;
        assert_eq!(read("mh-z19", "response_timeout = '100ms'", &damaged), []);
    }
}
