//! Parts on an I2C bus of the kernel's, read by us and by its own driver.
//!
//! The kernel's i2c-stub is a bus whose parts are registers in memory. It carries
//! SMBus alone; what needs plain I2C has been tried against recorded transfers
//! only.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use super::guest::{Guest, PATIENCE};
use super::vm::last;

/// Two BME280 with the registers of the data sheet's example (BMP280, section
/// 3.12, and a humidity behind it), one of them in the hands of the kernel's
/// driver, which a trigger makes measure ten times a second.
const SETUP: &str = r#"
set -e
modprobe i2c-dev; modprobe i2c-stub chip_addr=0x76,0x77; modprobe bmp280-i2c; modprobe iio-trig-hrtimer
cat >/root/fill.py <<'P'
import ctypes, fcntl, os, sys
class Transfer(ctypes.Structure):
    _fields_ = [("rw", ctypes.c_uint8), ("register", ctypes.c_uint8), ("size", ctypes.c_uint32), ("data", ctypes.c_void_p)]
bus = os.open(sys.argv[1], os.O_RDWR)
fcntl.ioctl(bus, 0x0706, int(sys.argv[2], 0))
for word in sys.argv[3:]:
    at, _, text = word.partition("=")
    for place, byte in enumerate(bytes.fromhex(text)):
        data = (ctypes.c_uint8 * 34)(byte)
        fcntl.ioctl(bus, 0x0720, Transfer(0, int(at, 16) + place, 2, ctypes.addressof(data)))
P
bus=$(grep -l stub /sys/class/i2c-dev/*/name | head -1 | cut -d/ -f5)
for part in 0x76 0x77; do
    python3 /root/fill.py /dev/$bus $part d0=60 e1=6a010013 e5=2a031e f7=655ac07eed007148 \
        88=706b436718fc7d8e43d6d00b270b8c00f9ff8c3cf8c67017004b
done
echo bme280 0x76 >/sys/bus/i2c/devices/$bus/new_device
mountpoint -q /sys/kernel/config || mount -t configfs c /sys/kernel/config
mkdir -p /sys/kernel/config/iio/triggers/hrtimer/every-100ms
udevadm settle
for trigger in /sys/bus/iio/devices/trigger*; do echo 10 >$trigger/sampling_frequency; done
mkdir -p /etc/systemd/system/tidemill.service.d
printf '[Service]\nReadWritePaths=/sys/devices\nDeviceAllow=char-iio r\n' >/etc/systemd/system/tidemill.service.d/iio.conf
systemctl daemon-reload
cat >>/etc/tidemill/tidemill.toml <<END
[device.ours]
driver = "i2c"
part = "bme280"
bus = "$bus"
address = 0x77
poll = "1s"
[device.held]
driver = "i2c"
part = "bme280"
bus = "$bus"
[device.nobody]
driver = "i2c"
part = "sht31"
bus = "$bus"
[device.theirs]
driver = "iio"
poll = "1s"
buffer = 64
trigger = "every-100ms"
END
tidemill check
systemctl restart tidemill
"#;

/// Tries them, and puts the machine back.
pub(super) fn sensors(guest: &Guest) -> Result<String> {
    let kept = guest.sh("cat /etc/tidemill/tidemill.toml")?;
    let tried = guest.sh(SETUP).and_then(|_| tried(guest));
    guest.write("/etc/tidemill/tidemill.toml", &kept)?;
    guest.sh("rm /etc/systemd/system/tidemill.service.d/iio.conf; systemctl daemon-reload
         systemctl restart tidemill")?;
    tried
}

fn tried(guest: &Guest) -> Result<String> {
    let measured = |device: &'static str| {
        move || {
            let of = |quantity: &str| -> Result<Option<f64>> {
                Ok(last(guest, &format!("{device}/{quantity}"))?["value"].as_f64())
            };
            let all = [of("temperature")?, of("humidity")?, of("pressure")?];
            Ok(all.iter().all(Option::is_some).then(|| all.map(Option::unwrap_or_default)))
        }
    };
    let (ours, _) = guest.until("our driver has measured", PATIENCE, measured("ours"))?;
    let (theirs, _) = guest.until("the kernel's has", PATIENCE, measured("theirs"))?;
    // The kernel rounds the scale of its buffer: 1006.47 of 1006.53 hPa.
    for (one, other) in ours.iter().zip(&theirs) {
        ensure!((one - other).abs() < 0.1, "{ours:?} by us, {theirs:?} by the kernel");
    }
    for (device, reason) in [("held", "in use"), ("nobody", "absent")] {
        let told = last(guest, &format!("{device}/temperature"))?;
        ensure!(told["reason"] == reason, "{device}: {told}");
    }
    #[expect(clippy::disallowed_methods, reason = "a chore may wait")]
    std::thread::sleep(Duration::from_secs(5));
    let rows: Value =
        serde_json::from_str(&guest.get("/api/v1/readings?channel=theirs/temperature")?)?;
    let rows = rows["readings"].as_array().context("readings")?;
    let good = rows.iter().filter(|row| row["value"].is_number()).count();
    ensure!(good >= 40, "{good} measurements of ten a second in five seconds");
    let [temperature, humidity, pressure] = ours;
    Ok(format!(
        "{temperature:.2} °C, {humidity:.2} %, {pressure:.2} hPa by us and by the kernel's driver; \
         {good} of its buffer; a part that it holds and one that isn't there are told"
    ))
}
