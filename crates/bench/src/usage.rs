//! What the kernel says a process or thread has used.

use std::time::Duration;

/// Ticks of `utime` and `stime` in a second: `USER_HZ`, 100 on every Linux that
/// the gateway runs on.
const TICKS: f64 = 100.0;

/// CPU seconds of a process, all its threads, user and kernel.
pub(crate) fn cpu(pid: &str) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold spaces; what follows doesn't.
    let (_, rest) = stat.rsplit_once(')').unwrap();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |field: usize| fields[field].parse::<f64>().unwrap();
    // Fields 14 and 15 of proc(5); the first here is field 3.
    (ticks(11) + ticks(12)) / TICKS
}

/// CPU seconds of this thread alone.
pub(crate) fn thread_cpu() -> f64 {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanoseconds = schedstat.split_whitespace().next().unwrap().parse().unwrap();
    Duration::from_nanos(nanoseconds).as_secs_f64()
}

/// The most memory a process ever had, bytes.
pub(crate) fn peak_rss(pid: &str) -> u64 {
    field(&format!("/proc/{pid}/status"), "VmHWM:") * 1024
}

/// What a process caused to be written to disk, bytes.
pub(crate) fn written(pid: &str) -> u64 {
    field(&format!("/proc/{pid}/io"), "write_bytes:")
}

fn field(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}
