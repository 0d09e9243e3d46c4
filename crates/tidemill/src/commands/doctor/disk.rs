//! The disk below a path: its file system, its room, and the card it is on.

use std::fs;
use std::path::{Path, PathBuf};

use super::finding::Finding;
use super::machine::Machine;

/// Less room than this is worth a warning, whatever `max_size` says: the system
/// needs some too.
const FREE_MIN: u64 = 256 << 20;

/// File systems that are gone after a restart.
const VOLATILE: &[&str] = &["tmpfs", "ramfs", "overlay"];

/// A mounted file system: proc(5), `/proc/self/mountinfo`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Mount {
    pub(super) point: PathBuf,
    /// Major and minor number of its device: `179:2`.
    device: String,
    kind: String,
    read_only: bool,
}

/// Bytes of a file system.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// Everything about the disk under a path that exists.
pub(super) fn probe(machine: &Machine, path: &Path, max_size: u64, used: u64) -> Vec<Finding> {
    let mount = mount(&machine.read("proc/self/mountinfo"), path);
    let mut findings = Vec::new();
    if let Some(mount) = &mount {
        findings.extend(file_system(mount));
    }
    match room(&machine.path(path)) {
        Ok(room) => findings.push(judge(room, max_size, used)),
        Err(error) => findings.push(Finding::fail(
            "disk",
            format!("{} can't be asked for its room: {error}", path.display()),
            "is the disk still connected? dmesg may know",
        )),
    }
    findings.extend(mount.and_then(|mount| card(machine, &mount)));
    findings
}

fn mount(table: &str, path: &Path) -> Option<Mount> {
    let line = |line: &str| {
        let (fields, rest) = line.split_once(" - ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let rest: Vec<&str> = rest.split(' ').collect();
        // The space in a path is written as \040.
        let point = PathBuf::from(fields.get(4)?.replace("\\040", " "));
        let is_ro = |options: &str| options.split(',').any(|option| option == "ro");
        Some(Mount {
            device: (*fields.get(2)?).to_owned(),
            kind: (*rest.first()?).to_owned(),
            read_only: is_ro(fields.get(5)?) || rest.get(2).is_some_and(|options| is_ro(options)),
            point,
        })
    };
    let around = table.lines().filter_map(line).filter(|mount| path.starts_with(&mount.point));
    // Of two at the same point the later hides the earlier.
    around.max_by_key(|mount| mount.point.components().count())
}

fn file_system(mount: &Mount) -> Option<Finding> {
    let point = mount.point.display();
    if mount.read_only {
        return Some(Finding::fail(
            "disk",
            format!("the file system at {point} is mounted read-only"),
            format!(
                "sudo mount -o remount,rw {point}; if the kernel made it so after errors (dmesg), \
                 replace the card"
            ),
        ));
    }
    VOLATILE.contains(&mount.kind.as_str()).then(|| {
        Finding::warn(
            "disk",
            format!("{point} is a {}: its readings may be gone after a restart", mount.kind),
            "set store.path to a place on a disk or card",
        )
    })
}

fn room(path: &Path) -> rustix::io::Result<Room> {
    let about = rustix::fs::statvfs(path)?;
    Ok(Room {
        free: about.f_bavail.saturating_mul(about.f_frsize),
        total: about.f_blocks.saturating_mul(about.f_frsize),
    })
}

fn judge(room: Room, max_size: u64, used: u64) -> Finding {
    let size = super::super::status::size;
    let (free, total) = (size(room.free), size(room.total));
    let wanted = max_size.saturating_sub(used);
    let mend = "make room (journalctl --vacuum-size=50M, apt clean), or lower store.max_size";
    if room.free < FREE_MIN {
        return Finding::fail("disk", format!("{free} free of {total}"), mend);
    }
    if room.free < wanted {
        let found = format!(
            "{free} free of {total}, and the store may yet take {} (max_size)",
            size(wanted)
        );
        return Finding::warn("disk", found, mend);
    }
    Finding::ok("disk", format!("{free} free of {total}"))
}

/// What the card or disk says of its wear.
fn card(machine: &Machine, mount: &Mount) -> Option<Finding> {
    let part = fs::canonicalize(machine.root.join("sys/dev/block").join(&mount.device)).ok()?;
    let disk = if part.join("partition").exists() { part.parent()? } else { &part };
    let attribute = |file: &str| {
        let text = fs::read_to_string(disk.join(file)).ok()?;
        Some(text.trim().to_owned()).filter(|text| !text.is_empty())
    };
    let name = disk.file_name()?.to_string_lossy().into_owned();
    let model = attribute("device/name").or_else(|| attribute("device/model"));
    let kind = attribute("device/type").filter(|kind| kind.chars().all(char::is_alphabetic));
    let what = match (kind, model) {
        (Some(kind), Some(model)) => format!("{name}: {kind} card {model}"),
        (_, Some(model)) => format!("{name}: {model}"),
        (_, None) => name,
    };
    let partition = part.file_name()?.to_string_lossy().into_owned();
    let ext4 = machine.root.join("sys/fs/ext4").join(partition);
    let number = |file: &str| -> Option<u64> {
        fs::read_to_string(ext4.join(file)).ok()?.trim().parse().ok()
    };
    let written = number("lifetime_write_kbytes").map_or(String::new(), |kib| {
        format!(", {} written in all", super::super::status::size(kib << 10))
    });
    let broken = number("errors_count").filter(|count| *count > 0);
    if let Some(count) = broken {
        return Some(Finding::fail(
            "card",
            format!("{what}: its file system has {count} errors{written}"),
            "back up now (docs/operations.md), then fsck at the next start; replace an old card",
        ));
    }
    let worn = worn(&attribute("device/pre_eol_info"), &attribute("device/life_time"));
    Some(match worn {
        Some(Wear { percent, urgent: true }) => Finding::fail(
            "card",
            format!("{what}: up to {percent} % of its life is used{written}"),
            "back up now (docs/operations.md), and replace it",
        ),
        Some(Wear { percent, .. }) if percent > 80 => Finding::warn(
            "card",
            format!("{what}: up to {percent} % of its life is used{written}"),
            "plan to replace it; a longer store.flush writes less",
        ),
        Some(Wear { percent, .. }) => {
            Finding::ok("card", format!("{what}: up to {percent} % of its life is used{written}"))
        }
        None => Finding::ok("card", format!("{what}, which doesn't tell its wear{written}")),
    })
}

struct Wear {
    /// At most so much of its life is used.
    percent: u32,
    /// Its spare blocks are nearly used up.
    urgent: bool,
}

/// Of an eMMC, JEDEC 84-B51, section 7.4: the life in steps of ten per cent, of
/// two kinds of cells; the spare blocks as 1 (normal), 2 (80 %) or 3 (90 %).
fn worn(pre_eol: &Option<String>, life: &Option<String>) -> Option<Wear> {
    let hex = |text: &str| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok();
    let steps = life.as_ref()?.split_ascii_whitespace().filter_map(hex).max()?;
    let urgent = pre_eol.as_deref().and_then(hex).is_some_and(|state| state >= 3);
    (steps > 0).then(|| Wear { percent: steps.min(11) * 10, urgent: urgent || steps > 10 })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Fake;
    use super::*;

    const TABLE: &str = "22 1 179:2 / / rw,noatime shared:1 - ext4 /dev/mmcblk0p2 rw\n\
        30 22 0:27 / /run rw,nosuid - tmpfs tmpfs rw\n\
        31 22 8:1 / /srv/my\\040disk ro - ext4 /dev/sda1 rw\n\
        32 22 8:17 / /bad rw - ext4 /dev/sdb1 ro,errors=remount-ro\n";

    fn of(path: &str) -> Option<Finding> {
        file_system(&mount(TABLE, Path::new(path)).unwrap())
    }

    #[test]
    fn the_file_system_under_a_path_is_found_and_judged() {
        assert_eq!(of("/var/lib/tidemill"), None);
        for path in ["/srv/my disk/a", "/bad/store"] {
            let found = of(path).unwrap();
            assert_eq!(found.verdict, Verdict::Fail);
            assert!(found.mend.unwrap().contains("remount,rw"), "{path}");
        }
        let volatile = of("/run/tidemill").unwrap();
        assert_eq!(volatile.verdict, Verdict::Warn);
        assert!(volatile.found.contains("tmpfs"));
    }

    #[test]
    fn a_full_disk_fails_and_one_too_small_for_max_size_warns() {
        let verdict = |free, max, used| judge(Room { free, total: 8 << 30 }, max, used).verdict;
        assert_eq!(verdict(100 << 20, 1 << 30, 0), Verdict::Fail);
        assert_eq!(verdict(1 << 30, 2 << 30, 0), Verdict::Warn);
        assert_eq!(verdict(1 << 30, 2 << 30, 3 << 29), Verdict::Ok);
        assert_eq!(verdict(4 << 30, 2 << 30, 0), Verdict::Ok);
    }

    /// An eMMC as the kernel shows it.
    fn emmc(life: &str, eol: &str, errors: &str) -> Finding {
        let fake = Fake::new();
        let disk = "sys/devices/mmc0/block/mmcblk0";
        fake.put(&format!("{disk}/mmcblk0p2/partition"), "2\n")
            .put(&format!("{disk}/device/name"), "BJTD4R\n")
            .put(&format!("{disk}/device/type"), "MMC\n")
            .put(&format!("{disk}/device/life_time"), life)
            .put(&format!("{disk}/device/pre_eol_info"), eol)
            .put("sys/fs/ext4/mmcblk0p2/errors_count", errors)
            .put("sys/fs/ext4/mmcblk0p2/lifetime_write_kbytes", "3145728\n")
            .link("sys/dev/block/179:2", "../../devices/mmc0/block/mmcblk0/mmcblk0p2");
        card(&fake.machine(), &mount(TABLE, Path::new("/")).unwrap()).unwrap()
    }

    #[test]
    fn a_card_tells_its_wear_and_its_errors() {
        let fresh = emmc("0x01 0x02\n", "0x01\n", "0\n");
        let said =
            "mmcblk0: MMC card BJTD4R: up to 20 % of its life is used, 3.0 GiB written in all";
        assert_eq!(fresh, Finding::ok("card", said));
        assert_eq!(emmc("0x09 0x02\n", "0x01\n", "0\n").verdict, Verdict::Warn);
        assert_eq!(emmc("0x0b 0x02\n", "0x01\n", "0\n").verdict, Verdict::Fail);
        assert_eq!(emmc("0x02 0x02\n", "0x03\n", "0\n").verdict, Verdict::Fail);
        let broken = emmc("0x01 0x01\n", "0x01\n", "7\n");
        assert_eq!(broken.verdict, Verdict::Fail);
        assert!(broken.found.contains("7 errors"), "{}", broken.found);
        let silent = emmc("\n", "\n", "0\n");
        assert!(silent.verdict == Verdict::Ok && silent.found.contains("doesn't tell its wear"));
    }
}
