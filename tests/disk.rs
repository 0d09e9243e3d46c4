//! The disk is full, fails or becomes read-only: the view goes on, and so does
//! storing as soon as it can.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Broker, Gateway, Home, Port, eventually};

/// How soon after a fault's end readings are stored again.
const AGAIN_MAX: Duration = Duration::from_secs(5);

/// What the gateway may take while nothing can be stored, kB.
const MEMORY_MAX: u64 = 120_000;

/// A file system of its own, gone with the test.
struct Mount(PathBuf);

impl Mount {
    #[track_caller]
    fn new(folder: &Path, arguments: &[&str]) -> Mount {
        std::fs::create_dir_all(folder).unwrap();
        let mount = Command::new("mount").args(arguments).arg(folder).output().unwrap();
        let error = String::from_utf8_lossy(&mount.stderr);
        assert!(mount.status.success(), "these tests mount file systems, as root: {error}");
        Mount(folder.to_owned())
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // Lazily: the gateway may still hold it.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

/// One look at the ledger, which must balance at any time.
#[track_caller]
fn store(gateway: &Gateway) -> Value {
    let status = gateway.status();
    let store = &status["store"];
    let count = |name: &str| store[name].as_u64().unwrap();
    assert_eq!(count("read"), count("stored") + count("dropped"), "{store}");
    store.clone()
}

fn memory(gateway: &Gateway) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", gateway.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// The live feed gives what the sensor says now.
#[track_caller]
fn view_goes_on(gateway: &Gateway, port: &mut Port, value: u64) {
    let mut feed = gateway.feed();
    port.line(&format!("{{\"n\":{value}}}"));
    let began = Instant::now();
    feed.reading("weather/n", |reading| reading["value"].as_f64() == Some(value as f64));
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
}

#[track_caller]
fn stores_again(gateway: &Gateway, port: &mut Port, ended: Instant) {
    let before = store(gateway)["stored"].as_u64().unwrap();
    eventually("storing goes on by itself", || {
        port.line("{\"n\":1}");
        let store = store(gateway);
        (store["error"].is_null() && store["stored"].as_u64()? > before).then_some(())
    });
    assert!(ended.elapsed() < AGAIN_MAX, "{:?}", ended.elapsed());
    assert!(!gateway.log().contains("panicked"), "{}", gateway.log());
}

#[test]
fn a_disk_filled_by_somebody_else_stops_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::new(&folder.path().join("disk"), &["-t", "tmpfs", "-o", "size=8m", "none"]);
    let mut port = Port::new();
    let home = Home::with("", &port.config()).on(&disk.0);
    let gateway = home.start();
    port.opened();
    port.count(0..2_000);
    // To the last byte.
    let filler = disk.0.join("filler");
    let mut blocks = Command::new("dd");
    blocks.args(["if=/dev/zero", "bs=4096"]).arg(format!("of={}", filler.display()));
    assert!(!blocks.output().unwrap().status.success(), "the disk is full");
    let mut value = 10_000;
    let fault = Instant::now();
    let mut faults = 0;
    while fault.elapsed() < Duration::from_secs(4) {
        port.count(value..value + 1_000);
        value += 1_000;
        faults += u32::from(!store(&gateway)["error"].is_null());
        assert!(memory(&gateway) < MEMORY_MAX, "{} kB", memory(&gateway));
    }
    view_goes_on(&gateway, &mut port, value);
    assert!(faults > 0 || gateway.log().contains("nearly full"), "{}", gateway.log());
    std::fs::remove_file(&filler).unwrap();
    stores_again(&gateway, &mut port, Instant::now());
    gateway.stop();
}

#[test]
fn writes_that_fail_are_tried_again_until_they_dont() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    // A limit on the size of files makes each write beyond it fail; the signal
    // that comes with it is ignored, or it would end the process.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]).arg(crate::support::binary());
    command.arg("run").arg("--config").arg(home.config());
    let gateway = home.start_as(command);
    port.opened();
    port.count(0..100);
    let limit = |size: &str| {
        let pid = gateway.pid().to_string();
        let mut set = Command::new("prlimit");
        set.args(["--pid", &pid]).arg(format!("--fsize={size}"));
        assert!(set.status().unwrap().success());
    };
    limit("4096:unlimited");
    let told = eventually("the fault is told", || {
        port.line("{\"n\":2}");
        store(&gateway)["error"].as_str().map(str::to_owned)
    });
    assert!(told.contains("I/O"), "{told}");
    view_goes_on(&gateway, &mut port, 77);
    limit("unlimited:unlimited");
    stores_again(&gateway, &mut port, Instant::now());
    assert_eq!(store(&gateway)["dropped"], 0, "the queue held all of it");
    let said = gateway.log().lines().filter(|line| line.contains("can't store")).count();
    assert_eq!(said, 1, "once a cause:\n{}", gateway.log());
    gateway.stop();
}

#[test]
fn a_card_that_turns_read_only_costs_history_and_not_the_view() {
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("card.img");
    std::fs::File::create(&image).unwrap().set_len(32 << 20).unwrap();
    assert!(Command::new("mkfs.ext4").arg("-qF").arg(&image).status().unwrap().success());
    let card = Mount::new(
        &folder.path().join("card"),
        &["-o", "loop,errors=remount-ro", image.to_str().unwrap()],
    );
    let mut port = Port::new();
    let home = Home::with("", &port.config()).on(&card.0);
    let gateway = home.start();
    port.opened();
    port.count(0..100);
    // As the kernel does when the card answers with nonsense.
    let mounts = std::fs::read_to_string("/proc/mounts").unwrap();
    let device = mounts.lines().find(|line| line.contains(card.0.to_str().unwrap())).unwrap();
    let device = device.split(' ').next().unwrap().trim_start_matches("/dev/");
    std::fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "card").unwrap();
    let mut value = 1_000;
    let told = eventually("the fault is told", || {
        port.count(value..value + 100);
        value += 100;
        store(&gateway)["error"].as_str().map(str::to_owned)
    });
    view_goes_on(&gateway, &mut port, 78);
    assert!(memory(&gateway) < MEMORY_MAX, "{} kB", memory(&gateway));
    assert!(!gateway.log().contains("panicked"), "{told}:\n{}", gateway.log());
}

/// A gateway that was started on a disk that can't be written: it measures and
/// shows, and all that it read is stored as soon as `mend` has been done.
fn starts_without_its_disk(home: &Home, port: &mut Port, mend: impl FnOnce()) {
    let gateway = home.start();
    port.opened();
    let told = store(&gateway);
    let why = told["error"].as_str().unwrap_or_else(|| panic!("{told}")).to_owned();
    assert!(why.contains("can't be opened"), "{why}");
    assert_eq!(told["path"], home.db().to_str().unwrap(), "where it should be");
    port.count(1_000..1_500);
    view_goes_on(&gateway, port, 1_500);
    let epoch = gateway.status()["epoch"].clone();

    mend();
    let ended = Instant::now();
    let count = "select count(distinct value) from readings where channel = 'n' and value >= 1000";
    eventually("what was read is stored", || {
        (home.try_sqlite(count).ok()? == ["501"]).then_some(())
    });
    assert!(ended.elapsed() < AGAIN_MAX, "{:?}", ended.elapsed());
    eventually("it runs with its store", || {
        let status = http_status(&gateway)?;
        (status["store"]["error"].is_null() && status["epoch"] != epoch).then_some(())
    });
    port.opened();
    stores_again(&gateway, port, Instant::now());
    gateway.stop();
}

/// The status, when the gateway answers.
fn http_status(gateway: &Gateway) -> Option<Value> {
    gateway.answers("/api/v1/status").map(|answer| answer.json())
}

#[test]
fn it_starts_on_a_card_that_is_read_only() {
    let folder = tempfile::tempdir().unwrap();
    let card = Mount::new(&folder.path().join("card"), &["-t", "tmpfs", "-o", "size=8m", "none"]);
    let (broker, mut port) = (Broker::start(), Port::new());
    let subscriber = broker.subscribe("tidemill/greenhouse/weather/n");
    let home = Home::with("", &(broker.config("") + &port.config())).on(&card.0);
    let gateway = home.start();
    port.opened();
    gateway.forwarder_is("cloud", "online");
    port.count(0..10);
    // Those without a value apart: the sensor was away between two starts.
    let next = || loop {
        let reading = subscriber.next_on("tidemill/greenhouse/weather/n").json();
        if let Some(value) = reading["value"].as_f64() {
            break value;
        }
    };
    for value in 0..10 {
        assert_eq!(next(), f64::from(value));
    }
    gateway.stop();
    let remount = |how: &str| {
        let mut mount = Command::new("mount");
        assert!(mount.args(["-o", how]).arg(&card.0).status().unwrap().success());
    };
    remount("remount,ro");
    port.plug_again();
    starts_without_its_disk(&home, &mut port, || remount("remount,rw"));
    // Forwarded once the name of the start was durable, in order.
    for value in 1_000..=1_500 {
        assert_eq!(next(), f64::from(value));
    }
}

#[test]
fn it_starts_on_a_disk_that_is_full_to_the_last_byte() {
    let folder = tempfile::tempdir().unwrap();
    let disk = Mount::new(&folder.path().join("disk"), &["-t", "tmpfs", "-o", "size=8m", "none"]);
    let filler = disk.0.join("filler");
    let mut blocks = Command::new("dd");
    blocks.args(["if=/dev/zero", "bs=4096"]).arg(format!("of={}", filler.display()));
    assert!(!blocks.output().unwrap().status.success(), "the disk is full");
    let mut port = Port::new();
    let home = Home::with("", &port.config()).on(&disk.0);
    starts_without_its_disk(&home, &mut port, || std::fs::remove_file(&filler).unwrap());
}

#[test]
fn a_damaged_store_is_put_aside_and_the_gateway_runs() {
    let mut port = Port::new();
    let home = Home::new(&port.config());
    let gateway = home.start();
    port.opened();
    port.count(0..3_000);
    eventually("they are stored", || (store(&gateway)["stored"].as_u64()? >= 3_000).then_some(()));
    gateway.stop();
    // The header, the schema and a piece in the middle.
    let mut bytes = std::fs::read(home.db()).unwrap();
    bytes[..1_024].fill(0);
    let half = bytes.len() / 2;
    bytes[half..half + 2_048].fill(0xff);
    std::fs::write(home.db(), bytes).unwrap();

    let began = Instant::now();
    let gateway = home.start();
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    let losses = store(&gateway)["losses"].clone();
    let lost = losses[0]["count"].as_u64().unwrap();
    assert_eq!(losses[0]["reason"], "store damaged");
    assert!((1..400).contains(&lost), "{losses}");
    let stored = home.sqlite("select count(*) from readings where channel = 'n'").concat();
    assert!(stored.parse::<u64>().unwrap() >= 3_000 - lost, "{stored}");
    // The gap record is there for whoever asks.
    eventually("the gap is told", || {
        let gaps = home.sqlite("select count, reason from gaps where reason = 'store damaged'");
        let told: u64 =
            gaps.iter().filter_map(|row| row.split('|').next()?.parse::<u64>().ok()).sum();
        (told == lost).then_some(())
    });
    let folder = home.db().parent().unwrap().to_owned();
    let names = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name());
    let names = names.map(|name| name.to_string_lossy().into_owned());
    // Perhaps with its log.
    let aside = names.filter(|name| name.contains(".damaged-20") && !name.ends_with("-wal"));
    assert_eq!(aside.count(), 1);
    gateway.stop();
}
