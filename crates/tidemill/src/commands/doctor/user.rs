//! Whether the service's user exists, and is in the groups that own devices.

use tidemill::Config;

use super::finding::Finding;
use super::machine::{Machine, SERVICE_USER};

/// Which group owns the devices of a driver, on Debian and Raspberry Pi OS.
const GROUPS: &[(&str, &str)] =
    &[("serial", "dialout"), ("modbus", "dialout"), ("gpio", "gpio"), ("i2c", "i2c")];

pub(super) fn probe(machine: &Machine, config: Option<&Config>) -> Vec<Finding> {
    if !machine.is_service() {
        return vec![Finding::warn(
            "user",
            format!("there is no user {SERVICE_USER}, so all is tried as you"),
            "install the package, or run systemd-sysusers, to have the service's user",
        )];
    }
    let devices = config.map(|config| config.devices.as_slice()).unwrap_or_default();
    let needed = |driver: &str| devices.iter().any(|device| device.driver() == driver);
    let mut missing: Vec<&str> = GROUPS
        .iter()
        // A group that isn't there owns nothing: the device itself is tried below.
        .filter(|(driver, group)| needed(driver) && machine.gid(group).is_some())
        .map(|(_, group)| *group)
        .filter(|group| !machine.is_in(group))
        .collect();
    missing.dedup();
    if !missing.is_empty() {
        let groups = missing.join(",");
        return vec![Finding::fail(
            "user",
            format!("{SERVICE_USER} is not in the group(s) {groups}, which own its devices"),
            format!("sudo usermod -aG {groups} {SERVICE_USER} && sudo systemctl restart tidemill"),
        )];
    }
    let of = |gid: &u32| machine.groups.iter().find(|group| group.gid == *gid);
    let names: Vec<&str> =
        machine.user.gids.iter().filter_map(of).map(|group| group.name.as_str()).collect();
    vec![Finding::ok("user", format!("{SERVICE_USER}, in {}", names.join(", ")))]
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::tests::Fake;
    use super::*;

    fn config() -> Config {
        let text = "[device.panel]\ndriver = 'gpio'\nchip = 'sim'\n[device.panel.channel]\na = { line = 1 }";
        Config::parse(text, "x.toml".as_ref()).unwrap()
    }

    #[test]
    fn a_missing_group_is_named_with_the_command_that_adds_it() {
        let fake = Fake::new();
        fake.put("etc/passwd", "tidemill:x:996:998::/:/bin/false\n");
        fake.put("etc/group", "gpio:x:997:\ntidemill:x:998:\n");
        let found = probe(&fake.machine(), Some(&config()));
        assert_eq!(found[0].verdict, Verdict::Fail);
        assert!(found[0].mend.as_ref().unwrap().contains("usermod -aG gpio tidemill"));
        fake.put("etc/group", "gpio:x:997:tidemill\ntidemill:x:998:\n");
        let found = probe(&fake.machine(), Some(&config()));
        assert_eq!(found, [Finding::ok("user", "tidemill, in tidemill, gpio")]);
    }

    #[test]
    fn a_machine_without_the_service_is_told_of() {
        let found = probe(&Fake::new().machine(), None);
        assert_eq!(found[0].verdict, Verdict::Warn);
    }
}
