use serde::de::IntoDeserializer;
use serde::de::value::{Error as NameError, StrDeserializer};

use super::*;

const STAT: &str = "cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3 4\n";

fn settings(root: &Path) -> Settings {
    Settings { disk: disk(), interface: None, root: root.to_owned() }
}

fn machine() -> (tempfile::TempDir, Machine) {
    let folder = tempfile::tempdir().unwrap();
    let put = |path: &str, text: &str| {
        let path = folder.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    put("proc/loadavg", "0.52 0.58 0.59 1/233 12345\n");
    put("proc/uptime", "1830.39 2608.08\n");
    put("proc/stat", STAT);
    put(
        "proc/meminfo",
        "MemTotal: 1000 kB\nMemAvailable:    250 kB\nSwapTotal: 0 kB\nSwapFree: 0 kB\n",
    );
    put("sys/class/thermal/thermal_zone0/type", "iwlwifi\n");
    put("sys/class/thermal/thermal_zone0/temp", "30000\n");
    put("sys/class/thermal/thermal_zone1/type", "cpu-thermal\n");
    put("sys/class/thermal/thermal_zone1/temp", "48312\n");
    put("sys/devices/platform/soc/soc:firmware/get_throttled", "50005\n");
    put(
        "proc/net/route",
        "Iface Destination Gateway Flags RefCnt Use Metric Mask MTU Window IRTT\n\
         wlan0 00000000 0101A8C0 0003 0 0 600 00000000 0 0 0\n\
         eth0 00000000 0101A8C0 0003 0 0 100 00000000 0 0 0\n\
         eth0 0001A8C0 00000000 0001 0 0 0 00FFFFFF 0 0 0\n",
    );
    for (interface, bytes) in [("eth0", "1000\n"), ("wlan0", "7\n")] {
        let at = format!("sys/class/net/{interface}");
        put(&format!("{at}/operstate"), "up\n");
        put(&format!("{at}/statistics/rx_bytes"), bytes);
        put(&format!("{at}/statistics/tx_bytes"), "2000\n");
        put(&format!("{at}/statistics/rx_errors"), "3\n");
        put(&format!("{at}/statistics/tx_errors"), "1\n");
    }
    put("sys/block/mmcblk0/device/life_time", "0x01 0x03\n");
    put("sys/block/mmcblk0/device/pre_eol_info", "0x01\n");
    let settings = settings(folder.path());
    let machine = Machine::new(&settings, Vec::new());
    (folder, machine)
}

#[test]
fn every_source_is_read_as_the_kernel_writes_it() {
    let (folder, mut machine) = machine();
    let mut number = |source| match machine.value(source).unwrap() {
        Some(Datum::Number(number)) => number,
        other => panic!("{other:?}"),
    };
    assert_eq!(number(Source::CpuTemperature), 48.312);
    assert_eq!([number(Source::Load1m), number(Source::Load15m)], [0.52, 0.59]);
    assert_eq!(number(Source::MemoryUsed), 75.0);
    assert_eq!(number(Source::MemoryAvailable), 256_000.0);
    assert_eq!(number(Source::Uptime), 1830.39);
    assert!((0.0..=100.0).contains(&number(Source::DiskUsed)));
    assert!(number(Source::DiskFree) > 0.0);
    assert_eq!(machine.value(Source::SwapUsed), Err(Fault::Absent));
    assert_eq!(machine.value(Source::Undervoltage), Ok(Some(true.into())));
    assert_eq!(machine.value(Source::CpuUsage), Ok(None), "the first time there is no last");
    let later = STAT.replace("100 0 50 800", "130 0 60 860");
    fs::write(folder.path().join("proc/stat"), later).unwrap();
    assert_eq!(machine.value(Source::CpuUsage), Ok(Datum::number(40.0)));
}

#[test]
fn only_what_is_there_is_a_channel_by_default() {
    let (folder, machine) = machine();
    let names = |machine: &Machine| -> Vec<String> {
        System::defaults(&settings(&machine.root)).into_iter().map(|channel| channel.name).collect()
    };
    let all = SOURCES.len();
    assert_eq!(names(&machine).len(), all - 1, "all but swap");
    fs::remove_dir_all(folder.path().join("sys")).unwrap();
    assert_eq!(names(&machine).len(), all - 14, "no sysfs");
}

#[test]
fn names_and_sources_are_the_same_words() {
    for (name, source) in SOURCES {
        let name: StrDeserializer<'_, NameError> = (*name).into_deserializer();
        assert_eq!(Source::deserialize(name).unwrap(), *source);
    }
}

#[test]
fn the_network_is_that_which_leads_to_the_world_until_it_is_gone() {
    let (folder, mut machine) = machine();
    let number = |machine: &mut Machine, source| machine.value(source).map(|datum| datum.unwrap());
    let of = |number: f64| Ok(Datum::Number(number));
    assert_eq!(number(&mut machine, Source::NetworkReceived), of(1000.0));
    assert_eq!(number(&mut machine, Source::NetworkSent), of(2000.0));
    assert_eq!(number(&mut machine, Source::NetworkErrors), of(4.0));
    assert_eq!(number(&mut machine, Source::NetworkUp), Ok(true.into()));
    // The cable is out: the route is gone, the interface is still the one.
    fs::write(folder.path().join("proc/net/route"), "").unwrap();
    fs::write(folder.path().join("sys/class/net/eth0/operstate"), "down\n").unwrap();
    assert_eq!(number(&mut machine, Source::NetworkUp), Ok(false.into()));
    fs::remove_dir_all(folder.path().join("sys/class/net/eth0")).unwrap();
    assert_eq!(number(&mut machine, Source::NetworkUp), Err(Fault::Absent));
    let named = Settings { interface: Some("wlan0".into()), ..settings(folder.path()) };
    let mut machine = Machine::new(&named, Vec::new());
    assert_eq!(number(&mut machine, Source::NetworkReceived), of(7.0));
    let gone = Settings { interface: Some("eth0".into()), ..named };
    let mut machine = Machine::new(&gone, Vec::new());
    assert_eq!(number(&mut machine, Source::NetworkUp), Err(Fault::Absent));
}

#[test]
fn an_emmc_says_how_old_it_is() {
    let (folder, mut machine) = machine();
    let mut of = |file: &str, text: &str, source| {
        fs::write(folder.path().join("sys/block/mmcblk0/device").join(file), text).unwrap();
        machine.value(source)
    };
    let life = |tenths: f64| Ok(Datum::number(tenths));
    assert_eq!(of("life_time", "0x01 0x03\n", Source::DiskLifeUsed), life(30.0));
    assert_eq!(of("life_time", "0x0b 0x01\n", Source::DiskLifeUsed), life(110.0));
    let unsaid = of("life_time", "0x00 0x00\n", Source::DiskLifeUsed);
    assert_eq!(unsaid, Err(Fault::Absent), "it doesn't say");
    assert_eq!(of("pre_eol_info", "0x01\n", Source::DiskEndOfLife), Ok(Some(false.into())));
    assert_eq!(of("pre_eol_info", "0x03\n", Source::DiskEndOfLife), Ok(Some(true.into())));
    assert_eq!(of("pre_eol_info", "0x00\n", Source::DiskEndOfLife), Err(Fault::Absent));
}

#[test]
fn the_firmware_is_found_on_every_pi_and_the_kernels_alarm_elsewhere() {
    let (folder, mut machine) = machine();
    let is = |machine: &mut Machine, source| machine.value(source);
    let yes = Ok(Some(Datum::Boolean(true)));
    assert_eq!(is(&mut machine, Source::Throttled), yes, "0x50005");
    assert_eq!(is(&mut machine, Source::UndervoltageSinceBoot), yes);
    assert_eq!(is(&mut machine, Source::FrequencyCapped), Ok(Some(false.into())));
    let platform = folder.path().join("sys/devices/platform");
    // A Pi 5.
    let soc = "soc@107c000000";
    fs::rename(platform.join("soc"), platform.join(soc)).unwrap();
    let firmware = platform.join(soc).join("soc@107c000000:firmware");
    fs::rename(platform.join(soc).join("soc:firmware"), firmware).unwrap();
    assert_eq!(is(&mut machine, Source::Throttled), yes);
    fs::remove_dir_all(&platform).unwrap();
    let chip = folder.path().join("sys/class/hwmon/hwmon3");
    fs::create_dir_all(&chip).unwrap();
    fs::write(chip.join("name"), "rpi_volt\n").unwrap();
    fs::write(chip.join("in0_lcrit_alarm"), "1\n").unwrap();
    assert_eq!(is(&mut machine, Source::Undervoltage), yes);
    assert_eq!(is(&mut machine, Source::Throttled), Err(Fault::Absent));
}
