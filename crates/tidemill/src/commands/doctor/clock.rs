//! Whether the clock can be trusted: the times of all readings are its.

use reading::Timestamp;

use super::finding::Finding;

pub(super) fn probe() -> Vec<Finding> {
    let clock = tidemill::clock::state();
    vec![judge(clock.set, clock.synchronized, Timestamp::now())]
}

fn judge(set: bool, synchronized: bool, now: Timestamp) -> Finding {
    let shows: String = now.to_string().chars().take(19).collect();
    let mend = "sudo timedatectl set-ntp true, and let UDP port 123 out; timedatectl \
                timesync-status says more";
    match (set, synchronized) {
        (true, true) => Finding::ok("clock", format!("synchronized, {shows}Z")),
        (true, false) => {
            Finding::warn("clock", format!("{shows}Z, which no time service confirms"), mend)
        }
        (false, _) => Finding::fail(
            "clock",
            format!("not set: it shows {shows}Z; readings wait for it, or are uncertain"),
            mend,
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::*;

    #[test]
    fn a_clock_is_right_or_unconfirmed_or_not_set() {
        let judge = |set, synchronized| judge(set, synchronized, Timestamp::from_micros(0));
        assert_eq!(judge(true, true), Finding::ok("clock", "synchronized, 1970-01-01T00:00:00Z"));
        assert_eq!(judge(true, false).verdict, Verdict::Warn);
        let unset = judge(false, false);
        assert_eq!(unset.verdict, Verdict::Fail);
        assert!(unset.found.contains("1970-01-01T00:00:00Z"), "{}", unset.found);
        assert!(unset.mend.unwrap().contains("timedatectl set-ntp true"));
    }
}
