//! Serial devices that don't speak in lines, that must be asked, and that are
//! plugged in again elsewhere.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::support::{Home, Port, eventually};

/// A machine at whose USB a device comes and goes: `sys` and `dev` as the kernel
/// and udev make them.
struct Usb(TempDir);

impl Usb {
    fn new() -> Usb {
        let usb = Usb(tempfile::Builder::new().prefix("tidemill-usb-").tempdir().unwrap());
        fs::create_dir_all(usb.0.path().join("sys/class/tty")).unwrap();
        fs::create_dir_all(usb.0.path().join("dev")).unwrap();
        usb
    }

    /// It is at this place of the hub now, and the kernel calls it so.
    fn plug(&self, bus: &str, tty: &str, port: &Path) {
        let root = self.0.path();
        let device = root.join("sys/devices/usb1").join(bus);
        let interface = device.join(format!("{bus}:1.0")).join(tty);
        let class = interface.join("tty").join(tty);
        fs::create_dir_all(&class).unwrap();
        for (name, text) in [("idVendor", "2341\n"), ("idProduct", "0043\n"), ("serial", "A1\n")] {
            fs::write(device.join(name), text).unwrap();
        }
        symlink(&interface, class.join("device")).unwrap();
        symlink(port, root.join("dev").join(tty)).unwrap();
        symlink(&class, root.join("sys/class/tty").join(tty)).unwrap();
    }

    fn unplug(&self, tty: &str) {
        fs::remove_file(self.0.path().join("sys/class/tty").join(tty)).unwrap();
        fs::remove_file(self.0.path().join("dev").join(tty)).unwrap();
    }
}

/// Files that a process has open on terminals.
fn terminals(pid: u32) -> usize {
    let links = fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    let paths = links.filter_map(|link| fs::read_link(link.ok()?.path()).ok());
    paths.filter(|path| path.starts_with("/dev/pts")).count()
}

/// Processor time of a process, in hundredths of a second.
fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let behind_name = stat.rsplit_once(") ").unwrap().1;
    let fields: Vec<&str> = behind_name.split(' ').collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

#[test]
fn a_device_is_found_by_its_ids_wherever_it_is_plugged_in_again() {
    let (usb, mut port) = (Usb::new(), Port::new());
    usb.plug("1-1", "ttyUSB0", &port.path());
    let home = Home::new(&format!(
        "[device.weather]\ndriver = \"serial\"\nusb = \"2341:0043:A1\"\nroot = {:?}\n\
         [device.weather.channel]\nn = {{}}\n",
        usb.0.path()
    ));
    let gateway = home.start();
    let mut feed = gateway.feed();
    port.opened();
    port.line("{\"n\":1}");
    feed.reading("weather/n", |reading| reading["value"].as_f64() == Some(1.0));
    let open = terminals(gateway.pid());

    usb.unplug("ttyUSB0");
    port.unplug();
    feed.reading("weather/n", |reading| reading["reason"] == "absent");
    let released = || (terminals(gateway.pid()) == open - 1).then_some(());
    eventually("the port is released", released);
    // So long that back-off alone would take another four seconds at least.
    let before = ticks(gateway.pid());
    std::thread::sleep(Duration::from_millis(7_200));
    let spent = ticks(gateway.pid()) - before;
    assert!(spent < 72, "{spent} ticks of the processor in 7 s without the device");

    port.plug();
    usb.plug("1-2", "ttyUSB7", &port.path());
    let back = Instant::now();
    port.opened();
    port.line("{\"n\":2}");
    feed.reading("weather/n", |reading| reading["value"].as_f64() == Some(2.0));
    // Two seconds, of which `opened` takes a third, and one for a busy machine.
    assert!(back.elapsed() < Duration::from_secs(3), "{:?}", back.elapsed());
}

#[test]
fn a_device_is_asked_and_one_that_is_silent_is_bad_until_it_answers() {
    let mut port = Port::new();
    let home = Home::new(&format!(
        "[device.scale]\ndriver = \"serial\"\nport = {:?}\nformat = \"csv\"\npoll = \"200ms\"\n\
         request = \"READ\\r\\n\"\nresponse_timeout = \"300ms\"\nencoding = \"latin-1\"\n\
         [device.scale.channel]\nweight = {{ column = 1, unit = \"kg\" }}\n",
        port.path()
    ));
    let gateway = home.start();
    let mut feed = gateway.feed();
    let asked = |port: &mut Port| {
        let mut heard = Vec::new();
        eventually("it is asked", || {
            heard.extend(port.heard());
            heard.ends_with(b"READ\r\n").then_some(())
        });
    };
    let is = |number: f64| move |reading: &Value| reading["value"].as_f64() == Some(number);
    asked(&mut port);
    port.write(b"72.5,\xb5g\r\n");
    feed.reading("scale/weight", is(72.5));
    let silent = feed.reading("scale/weight", |reading| reading["quality"] == "bad");
    assert_eq!(silent["reason"], "timeout", "{silent}");
    // Every answer is that to the last question.
    eventually("it answers again", || {
        asked(&mut port);
        port.write(b"73,g\r\n");
        let answers = gateway.log().contains("it answers again");
        answers.then_some(())
    });
    feed.reading("scale/weight", is(73.0));
    gateway.device_is("scale", "ok");
}

#[test]
fn megabytes_of_noise_cost_no_memory_and_the_next_binary_frame_is_read() {
    // As a sensor sent it: PM2.5 is 8.
    const FRAME: [u8; 32] = [
        0x42, 0x4d, 0x00, 0x1c, 0x00, 0x00, 0x00, 0x08, 0x00, 0x08, 0x00, 0x00, 0x00, 0x08, 0x00,
        0x08, 0x00, 0xd2, 0x00, 0x46, 0x00, 0x2d, 0x00, 0x1e, 0x00, 0x00, 0x00, 0x00, 0x97, 0x00,
        0x02, 0xc5,
    ];
    let (mut port, mut wires) = (Port::new(), Port::new());
    let home = Home::new(&format!(
        "[device.air]\ndriver = \"serial\"\nport = {:?}\npreset = \"pms5003\"\n\
         [device.bus]\ndriver = \"serial\"\nport = {:?}\nrs485 = {{ delay_after = \"1ms\" }}\n\
         [device.bus.channel]\nx = {{}}\n",
        port.path(),
        wires.path(),
    ));
    let gateway = home.start();
    let mut feed = gateway.feed();
    port.opened();
    port.write(&FRAME);
    let pm25 = |reading: &Value| reading["value"].as_f64() == Some(8.0);
    feed.reading("air/pm25", pm25);
    let resident = || {
        let status = fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    // Half a frame again and again: nothing but beginnings.
    let beginnings = FRAME[..20].repeat(3_000);
    port.write(&beginnings);
    let before = resident();
    for _ in 0..50 {
        port.write(&beginnings);
    }
    port.write(&FRAME);
    feed.reading("air/pm25", pm25);
    let grown = resident().saturating_sub(before);
    assert!(grown < 1024, "3 MB of noise: {grown} KiB more");
    gateway.device_is("air", "ok");

    // A port without an RS-485 mode says so, with the mend.
    gateway.device_is("bus", "lost");
    let error = gateway.device("bus")["error"].to_string();
    assert!(error.contains("leave `rs485` out"), "{error}");
    wires.unplug();
}
