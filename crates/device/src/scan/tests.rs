use std::os::unix::fs::symlink;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::*;
use crate::Config;

fn put(root: &Path, file: &str, text: &str) {
    let path = root.join(file);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A board with an Arduino, its own port, a port that isn't there and sensors.
fn board() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path();
    let device = "sys/devices/usb1/1-1";
    put(root, &format!("{device}/idVendor"), "2341\n");
    put(root, &format!("{device}/idProduct"), "0043\n");
    put(root, &format!("{device}/serial"), "A1\n");
    put(root, &format!("{device}/product"), "Arduino Uno (CDC)\n");
    put(root, &format!("{device}/1-1:1.0/x"), "");
    put(root, "sys/devices/soc/serial0/x", "");
    for (tty, device, kind) in [
        ("ttyACM0", Some("../../../devices/usb1/1-1/1-1:1.0"), None),
        ("ttyAMA0", Some("../../../devices/soc/serial0"), Some("32\n")),
        ("ttyS3", Some("../../../devices/soc/serial0"), Some("0\n")),
        ("tty1", None, None),
    ] {
        put(root, &format!("sys/class/tty/{tty}/uevent"), "");
        if let Some(device) = device {
            symlink(device, root.join("sys/class/tty").join(tty).join("device")).unwrap();
        }
        if let Some(kind) = kind {
            put(root, &format!("sys/class/tty/{tty}/type"), kind);
        }
    }
    put(root, "sys/class/tty/console/active", "tty1 ttyAMA0\n");
    fs::create_dir_all(root.join("dev/serial/by-id")).unwrap();
    symlink("../../ttyACM0", root.join("dev/serial/by-id/usb-Arduino_Uno-if00")).unwrap();
    fs::create_dir_all(root.join("proc/77/fd")).unwrap();
    put(root, "proc/77/comm", "minicom\n");
    symlink("/dev/ttyACM0", root.join("proc/77/fd/3")).unwrap();
    put(root, "dev/i2c-1", "");
    put(root, "sys/bus/i2c/devices/i2c-1/name", "bcm2835 (i2c@7e804000)\n");
    put(root, "sys/bus/i2c/devices/1-0076/name", "bme280\n");
    put(root, "sys/bus/w1/devices/28-0316a2795bff/temperature", "21500\n");
    put(root, "sys/bus/w1/devices/w1_bus_master1/x", "");
    put(root, "sys/bus/iio/devices/iio:device0/name", "bme280\n");
    for file in ["in_temp_input", "in_pressure_input", "in_voltage0_raw", "in_voltage0_scale"] {
        put(root, &format!("sys/bus/iio/devices/iio:device0/{file}"), "1\n");
    }
    put(root, "sys/class/hwmon/hwmon0/name", "rpi_volt\n");
    put(root, "sys/class/hwmon/hwmon0/in0_lcrit_alarm", "0\n");
    for (chip, address) in [("hwmon1", "1-0040"), ("hwmon2", "1-0041")] {
        put(root, &format!("sys/class/hwmon/{chip}/name"), "ina219\n");
        put(root, &format!("sys/class/hwmon/{chip}/in1_input"), "12004\n");
        put(root, &format!("sys/devices/i2c-1/{address}/name"), "ina219\n");
        let device = root.join("sys/devices/i2c-1").join(address);
        symlink(device, root.join("sys/class/hwmon").join(chip).join("device")).unwrap();
    }
    put(root, "sys/class/pwm/pwmchip0/npwm", "2\n");
    put(root, "sys/devices/platform/fe20c000.pwm/uevent", "");
    let device = root.join("sys/devices/platform/fe20c000.pwm");
    symlink(device, root.join("sys/class/pwm/pwmchip0/device")).unwrap();
    // A file that is no chip: it is shown with the reason.
    put(root, "dev/gpiochip0", "");
    symlink("gpiochip0", root.join("dev/gpiochip4")).unwrap();
    dir
}

#[test]
fn everything_that_is_connected_is_found() {
    let dir = board();
    let scan = Scan::of(dir.path(), &Holders::of(dir.path()));
    let mut shown = serde_json::to_value(&scan).unwrap();
    // The kernel's words, and the snippets are checked below.
    assert!(scan.gpio[0].error.is_some());
    shown["gpio"][0]["error"] = "…".into();
    for kind in ["serial", "i2c", "onewire", "iio", "hwmon", "pwm"] {
        for thing in shown[kind].as_array_mut().unwrap() {
            thing["snippet"] = "…".into();
        }
    }
    expect_test::expect![[r#"
        {"gpio":[{"error":"…","label":"","lines":[],"name":"gpiochip0","snippet":null}],
        "hwmon":[{"channels":["in0_lcrit_alarm"],"chip":"hwmon0","name":"rpi_volt","snippet":"…"},{"channels":["in1"],"chip":"hwmon1","name":"ina219","snippet":"…"},{"channels":["in1"],"chip":"hwmon2","name":"ina219","snippet":"…"}],
        "i2c":[{"name":"bcm2835 (i2c@7e804000)","path":"/dev/i2c-1","snippet":"…","taken":[[118,"bme280"]]}],
        "iio":[{"channels":["pressure","temp","voltage0"],"device":"iio:device0","name":"bme280","snippet":"…"}],
        "onewire":[{"id":"28-0316a2795bff","snippet":"…","thermometer":true}],
        "pwm":[{"channels":2,"chip":"pwmchip0","device":"fe20c000.pwm","snippet":"…"}],
        "serial":[{"by_id":["/dev/serial/by-id/usb-Arduino_Uno-if00"],"console":false,"path":"/dev/ttyACM0","process":{"name":"minicom","pid":77},"snippet":"…","usb":{"id":"2341:0043","product":"Arduino Uno (CDC)","serial":"A1"}},{"by_id":[],"console":true,"path":"/dev/ttyAMA0","process":null,"snippet":"…","usb":null}]}"#]]
    .assert_eq(&shown.to_string().replace(",\"i2c\"", ",\n\"i2c\"").replace(",\"iio\"", ",\n\"iio\"").replace(",\"hwmon\"", ",\n\"hwmon\"").replace(",\"pwm\"", ",\n\"pwm\"").replace(",\"onewire\"", ",\n\"onewire\"").replace(",\"serial\":[", ",\n\"serial\":["));
}

/// The snippets, each as a person would paste it.
#[test]
fn every_snippet_is_a_valid_configuration() {
    let dir = board();
    let mut scan = Scan::of(dir.path(), &Holders::default());
    let lines = vec![
        Line { offset: 0, name: String::new(), ..Line::default() },
        Line { offset: 17, name: "GPIO17".into(), ..Line::default() },
        Line { offset: 18, name: "PWM".into(), used: true, ..Line::default() },
    ];
    scan.gpio[0].snippet = gpio::snippet("gpiochip0", &lines);
    let snippets: Vec<&str> = scan.snippets().collect();
    assert_eq!(snippets.len(), 10, "{snippets:#?}");
    for snippet in &snippets {
        let file = DeTable::parse(snippet).expect(snippet).into_inner();
        let DeValue::Table(devices) = file["device"].get_ref() else { panic!("{snippet}") };
        let (name, device) = devices.iter().next().unwrap();
        let DeValue::Table(table) = device.get_ref() else { panic!("{snippet}") };
        let mut errors = Vec::new();
        let table = Spanned::new(device.span(), table.clone());
        let config = Config::parse(name.get_ref(), table, &mut errors);
        assert!(errors.is_empty() && config.is_some(), "{errors:?} in\n{snippet}");
    }
    expect_test::expect![[r#"
        [device.gpiochip0]
        driver = "gpio"
        chip = "gpiochip0"
        [device.gpiochip0.channel]
        line17 = { line = 17, direction = "input", label = "GPIO17" }
        line0 = { line = 0, direction = "input" }
    "#]]
    .assert_eq(snippets[0]);
    expect_test::expect![[r#"
        [device.i2c-1]
        driver = "i2c"
        bus = 1
        part = "bme280"   # what is wired: tidemill drivers i2c lists the parts
        [device.w1-28-0316a2795bff]
        driver = "w1"
        [device.w1-28-0316a2795bff.channel]
        temperature = { sensor = "28-0316a2795bff" }
        [device.bme280-0]
        driver = "iio"
        device = "bme280"
        [device.bme280-0.channel]
        pressure = { source = "pressure" }
        temp = { source = "temp" }
        voltage0 = { source = "voltage0" }
        [device.rpi-volt-0]
        driver = "hwmon"
        chip = "rpi_volt"
        [device.rpi-volt-0.channel]
        in0-lcrit-alarm = { source = "in0_lcrit_alarm" }
        [device.ina219-1]
        driver = "hwmon"
        chip = "1-0040"
        [device.ina219-1.channel]
        in1 = { source = "in1" }
        [device.ina219-2]
        driver = "hwmon"
        chip = "1-0041"
        [device.ina219-2.channel]
        in1 = { source = "in1" }
        [device.pwmchip0]
        driver = "gpio"
        pwm_chip = "pwmchip0"
        [device.pwmchip0.channel]
        pwm0 = { line = 0, direction = "pwm", frequency = 1000 }
    "#]]
    .assert_eq(&snippets[3..].join(""));
}

#[test]
fn an_empty_machine_has_nothing_and_that_is_no_error() {
    let dir = tempfile::tempdir().unwrap();
    let scan = Scan::of(dir.path(), &Holders::of(dir.path()));
    assert_eq!(scan.snippets().count(), 0);
}
