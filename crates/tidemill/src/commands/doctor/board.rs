//! The board: which it is, and whether its power supply and cooling suffice.

use super::finding::Finding;
use super::machine::Machine;

/// The firmware's word on a Raspberry Pi: `vcgencmd get_throttled`.
const THROTTLED: &str = "sys/devices/platform/soc/soc:firmware/get_throttled";

/// Its bits: now, since the start, what it is.
const BITS: &[(u32, &str)] = &[
    (0, "under-voltage"),
    (1, "the processor's clock is capped"),
    (2, "throttled"),
    (3, "the soft limit of temperature"),
];

const SUPPLY: &str = "use a supply of 5.1 V and 3 A (Pi 5: 5 A) and a short, thick cable";
const COOLING: &str = "give it air or a heat sink";

pub(super) fn probe(machine: &Machine) -> Vec<Finding> {
    let model = machine.read("proc/device-tree/model").trim_matches(['\0', '\n']).to_owned();
    let mut findings = Vec::new();
    if !model.is_empty() {
        findings.push(Finding::ok("board", model));
    }
    let text = machine.read(THROTTLED);
    if let Ok(bits) = u32::from_str_radix(text.trim().trim_start_matches("0x"), 16) {
        findings.push(throttled(bits));
    } else if let Some(finding) = voltage(machine) {
        findings.push(finding);
    }
    findings
}

fn throttled(bits: u32) -> Finding {
    let set = |shift: u32| -> Vec<&str> {
        let is = |bit: &u32| bits >> (bit + shift) & 1 == 1;
        BITS.iter().filter(|(bit, _)| is(bit)).map(|(_, name)| *name).collect()
    };
    let (now, since) = (set(0), set(16));
    // A weak supply also throttles: it is the first thing to mend.
    let weak = bits & 0x1_0001 != 0;
    let mend = if weak { SUPPLY } else { COOLING };
    if !now.is_empty() {
        return Finding::fail("power", format!("now: {}", now.join(", ")), mend);
    }
    if !since.is_empty() {
        return Finding::warn("power", format!("since the start: {}", since.join(", ")), mend);
    }
    Finding::ok("power", "no under-voltage, not throttled")
}

/// Kernels since 5.0 also show an alarm of the supply as a sensor.
fn voltage(machine: &Machine) -> Option<Finding> {
    let chip = (0..16)
        .map(|number| format!("sys/class/hwmon/hwmon{number}"))
        .find(|chip| machine.read(&format!("{chip}/name")).trim() == "rpi_volt")?;
    Some(match machine.read(&format!("{chip}/in0_lcrit_alarm")).trim() {
        "1" => Finding::fail("power", "now: under-voltage", SUPPLY),
        _ => Finding::ok("power", "no under-voltage"),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Fake;
    use super::*;

    #[test]
    fn the_firmware_s_bits_are_told_in_words() {
        for (bits, verdict, said) in [
            ("0", Verdict::Ok, "no under-voltage"),
            ("0x0", Verdict::Ok, "not throttled"),
            ("50005", Verdict::Fail, "now: under-voltage, throttled"),
            ("50000", Verdict::Warn, "since the start: under-voltage, throttled"),
            ("80008", Verdict::Fail, "the soft limit of temperature"),
        ] {
            let fake = Fake::new();
            fake.put(THROTTLED, &format!("{bits}\n"));
            fake.put("proc/device-tree/model", "Raspberry Pi 4 Model B Rev 1.4\0");
            let found = probe(&fake.machine());
            assert_eq!(found[0], Finding::ok("board", "Raspberry Pi 4 Model B Rev 1.4"));
            assert_eq!(found[1].verdict, verdict, "{bits}");
            assert!(found[1].found.contains(said), "{bits}: {}", found[1].found);
        }
        assert_eq!(throttled(0x5).mend.as_deref(), Some(SUPPLY));
        assert_eq!(throttled(0x8).mend.as_deref(), Some(COOLING));
    }

    #[test]
    fn the_kernel_s_alarm_is_used_where_the_firmware_says_nothing() {
        let fake = Fake::new();
        fake.put("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        fake.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "1\n");
        assert_eq!(probe(&fake.machine())[0].verdict, Verdict::Fail);
        fake.put("sys/class/hwmon/hwmon1/in0_lcrit_alarm", "0\n");
        assert_eq!(probe(&fake.machine())[0].verdict, Verdict::Ok);
        assert_eq!(probe(&Fake::new().machine()), []);
    }
}
