use expect_test::{Expect, expect};

use super::*;

/// Each error as `line:column path: message`.
fn check(file: &str, expected: &Expect) -> Option<Config> {
    let file = file.trim_start();
    let table = DeTable::parse(file).unwrap();
    let DeValue::Table(devices) = table.get_ref()["device"].get_ref() else { panic!() };
    let (name, device) = devices.iter().next().unwrap();
    let DeValue::Table(table) = device.get_ref() else { panic!() };
    let mut errors = Vec::new();
    let table = Spanned::new(device.span(), table.clone());
    let config = Config::parse(name.get_ref(), table, &mut errors);
    let shown: String = errors
        .iter()
        .map(|error| {
            let before = &file[..error.span.as_ref().unwrap().start];
            let line = before.lines().count().max(1) + usize::from(before.ends_with('\n'));
            let column = before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1;
            format!("{line}:{column} {error}\n")
        })
        .collect();
    expected.assert_eq(&shown);
    config
}

#[test]
fn every_error_is_found_at_once_with_its_place_and_its_mend() {
    check(
        r#"
[device.weather]
driver = "serial"
port = "/dev/ttyUSB0"
boud = 9600
data_bits = "eight"
timeout = "1 fortnight"
parity = "evn"
[device.weather.channel]
temperature = { feild = "t", unit = 5, scale = "x" }
Humidity = { field = "h" }
pressure = 7
door = { type = "bool", colour = "red", range = [1, "a"] }
"#,
        &expect![[r#"
            4:1 device.weather.boud: unknown key `boud`; did you mean `baud`?
            5:13 device.weather.data_bits: expected a whole number from 0 to 255, found the text "eight"
            6:11 device.weather.timeout: expected a duration such as 250ms, 1s, 15min, 30d, found the text "1 fortnight"
            7:10 device.weather.parity: unknown value "evn"; did you mean "even"? there are `none`, `odd`, `even`
            9:17 device.weather.channel.temperature.feild: unknown key `feild`; did you mean `field`?
            9:37 device.weather.channel.temperature.unit: expected a text in quotes, found the number 5
            9:48 device.weather.channel.temperature.scale: expected a number, found the text "x"
            10:1 device.weather.channel.Humidity: "Humidity" is not a name: 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit
            11:12 device.weather.channel.pressure: expected a table, such as { unit = "Cel" }
            12:17 device.weather.channel.door.type: unknown value "bool"; did you mean "boolean"? there are `number`, `boolean`, `text`, `u8`, `i8`, `u16`, `i16`, `u24`, `i24`, `u32`, `i32`, `u64`, `i64`, `f32`, `f64`, `bcd`
            12:25 device.weather.channel.door.colour: unknown key `colour`; did you mean `column`?
            12:53 device.weather.channel.door.range.1: expected a number, found the text "a"
        "#]],
    );
}

#[test]
fn what_serde_cannot_see_is_checked_as_well() {
    check(
        r#"
[device.weather]
driver = "serial"
usb = "1:2"
baud = 0
separator = ","
timeout = "0s"
[device.weather.channel]
t = { column = 1 }
"#,
        &expect![[r#"
            3:7 device.weather.usb: expected "vendor:product" or "vendor:product:serial", the first two 4 hexadecimal digits, such as "2341:0043"; lsusb shows them
            4:8 device.weather.baud: expected bits a second, such as 9600 or 115200
            5:13 device.weather.separator: only format = "csv" has it
            6:11 device.weather.timeout: expected 1ms or more
            8:16 device.weather.channel.t.column: with this format a channel says `field` instead
        "#]],
    );
    check(
        r#"
[device.weather]
driver = "serial"
stop_bits = 3
separator = ","
[device.weather.channel]
t = { column = 1 }
door = { type = "boolean", scale = 2.0, stale = "0s" }
low = { scale = 0, range = [5, 1], offset = inf }
"#,
        &expect![[r#"
            1:1 device.weather.port: missing key `port`, such as "/dev/ttyUSB0", or `usb`, such as "2341:0043"
            3:13 device.weather.stop_bits: expected 1 or 2
            4:13 device.weather.separator: only format = "csv" has it
            6:16 device.weather.channel.t.column: with this format a channel says `field` instead
            7:36 device.weather.channel.door.scale: only numbers have it, and this is a boolean
            7:49 device.weather.channel.door.stale: expected a duration such as 250ms, 1s, 15min, 30d; leave it out for never
            8:17 device.weather.channel.low.scale: a scale of 0 makes every value the same; leave it out for 1
            8:28 device.weather.channel.low.range: expected [low, high], and 5 is not below 1
            8:45 device.weather.channel.low.offset: expected a finite number
        "#]],
    );
}

#[test]
fn the_driver_must_be_one() {
    check(
        "[device.x]\ndriver = 'serail'",
        &expect![[r#"
        2:10 device.x.driver: unknown driver "serail"; did you mean "serial"?
    "#]],
    );
    check(
        "[device.x]\nport = 1",
        &expect![[r#"
            1:1 device.x.driver: missing key `driver`: one of "gpio", "hwmon", "i2c", "iio", "modbus", "serial", "sim", "system", "w1"
        "#]],
    );
    check(
        "[device.X]\ndriver = 'sim'",
        &expect![[r#"
        1:1 device.X: "X" is not a name: 1 to 64 of a-z, 0-9, '-' and '_', beginning with a letter or digit
    "#]],
    );
    check(
        "[device.x]\ndriver = 'serial'\nport = 'p'\npoll = '1s'",
        &expect![[r#"
            1:1 device.x.channel: there are no channels; declare one in [device.x.channel]
            4:8 device.x.poll: a serial device speaks on its own: leave `poll` out, or say in `request` what to ask it
        "#]],
    );
    check(
        "[device.x]\ndriver = 'serial'\nport = 'p'",
        &expect![[r#"
            1:1 device.x.channel: there are no channels; declare one in [device.x.channel]
        "#]],
    );
}

#[test]
fn channels_keep_the_order_of_the_file() {
    let file =
        "[device.x]\ndriver='sim'\n[device.x.channel]\nz={unit='V'}\na={label='A', range=[0,1]}";
    let config = check(file, &expect![[""]]).unwrap();
    let channels = config.channels();
    let names: Vec<&str> = channels.iter().map(|spec| spec.channel.as_str()).collect();
    assert_eq!(names, ["x/z", "x/a"]);
    assert_eq!(channels[0].unit.as_str(), "V");
    assert_eq!(channels[1].range, Some(0.0..=1.0));
    let again = check(&format!("# moved\n{file}"), &expect![[""]]).unwrap();
    assert_eq!(config, again);
    assert_ne!(config, check(&file.replace('V', "A"), &expect![[""]]).unwrap());
}

#[test]
fn the_keys_of_outputs_are_checked() {
    check(
        r#"
[device.panel]
driver = "gpio"
[device.panel.channel]
door = { line = 1, initial = true, pulse = "1s" }
pump = { line = 2, direction = "output", initial = 1, failsafe = { after = "0s", value = "off" } }
up = { line = 3, direction = "output", interlock = "motor", initial = true }
down = { line = 4, direction = "output", interlock = "motor", initial = true, debounce = "1s" }
fan = { line = 5, direction = "output", failsafe = { value = false }, min_on = "5s", pulse = "1s" }
"#,
        &expect![[r#"
            4:30 device.panel.channel.door.initial: only an output has it
            4:44 device.panel.channel.door.pulse: only an output has it
            5:52 device.panel.channel.pump.initial: expected a boolean, as the output is
            5:76 device.panel.channel.pump.failsafe.after: expected a duration such as 30s, 10min
            5:90 device.panel.channel.pump.failsafe.value: expected a boolean, as the output is
            7:73 device.panel.channel.down.initial: it may not be on together with up, which has the same; one of them is false
            7:90 device.panel.channel.down.debounce: an output doesn't have it: it is driven
            8:52 device.panel.channel.fan.failsafe.after: missing key `after`
            8:94 device.panel.channel.fan.pulse: it is shorter than `min_on`, so it would be as long as that
        "#]],
    );
    check(
        r#"
[device.x]
driver = "sim"
[device.x.channel]
a = { wave = "square", output = true }
b = { output = true, type = "number", range = [0, 10], initial = 11, on_stop = true, min_on = "1s" }
c = { min_off = "1s" }
"#,
        &expect![[r#"
            4:14 device.x.channel.a.wave: an output keeps what is written to it: leave `wave` out
            5:66 device.x.channel.b.initial: expected 0 to 10, as `range` has it
            5:80 device.x.channel.b.on_stop: expected a number, as the output is
            5:95 device.x.channel.b.min_on: only an output that is on or off has it, and this is a number
            6:17 device.x.channel.c.min_off: only an output has it
        "#]],
    );
}
