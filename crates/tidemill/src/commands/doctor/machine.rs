//! The machine that is examined: its files below a root, who the gateway is on
//! it, and what that user may do.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use device::scan::{Holders, Scan};

/// The bits of a mode, as chmod(1) counts them.
pub(crate) const READ: u32 = 0o4;
pub(crate) const WRITE: u32 = 0o2;
pub(crate) const ENTER: u32 = 0o1;

/// The user of the packaged service.
pub(crate) const SERVICE_USER: &str = "tidemill";

/// What is known of the machine.
pub(crate) struct Machine {
    /// `/`, or a folder that looks like it.
    pub(crate) root: PathBuf,
    pub(crate) scan: Scan,
    pub(crate) holders: Holders,
    /// Whoever runs the gateway: the service's user where there is one.
    pub(crate) user: User,
    /// Every group, by number.
    pub(crate) groups: Vec<Group>,
}

/// A user and the groups it is in.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) name: String,
    pub(crate) uid: u32,
    pub(crate) gids: Vec<u32>,
}

/// A line of group(5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    pub(crate) name: String,
    pub(crate) gid: u32,
    members: Vec<String>,
}

impl Machine {
    /// Looks at the machine.
    pub(crate) fn at(root: &Path) -> Machine {
        let holders = Holders::of(root);
        let groups = groups(&read(root, "etc/group"));
        let service = service_user(&read(root, "etc/passwd"), &groups, &unit(root));
        Machine {
            scan: Scan::of(root, &holders),
            holders,
            user: service.unwrap_or_else(|| myself(&read(root, "proc/self/status"))),
            groups,
            root: root.to_owned(),
        }
    }

    /// Whether the user is the service's, not whoever asks.
    pub(crate) fn is_service(&self) -> bool {
        self.user.name == SERVICE_USER
    }

    /// An absolute path below the root.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        self.root.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// A file's text; empty when there is none.
    pub(crate) fn read(&self, path: &str) -> String {
        read(&self.root, path)
    }

    /// The number of a group.
    pub(crate) fn gid(&self, name: &str) -> Option<u32> {
        self.groups.iter().find(|group| group.name == name).map(|group| group.gid)
    }

    /// Whether the user is in a group.
    pub(crate) fn is_in(&self, group: &str) -> bool {
        self.gid(group).is_some_and(|gid| self.user.gids.contains(&gid))
    }

    /// Whether the user has all these rights to a file.
    ///
    /// # Errors
    /// Why not, in words: `root:dialout, mode 660`.
    pub(crate) fn may(&self, path: &Path, rights: u32) -> Result<(), String> {
        let about = fs::metadata(self.path(path)).map_err(|error| super::super::words(&error))?;
        let (mode, gid) = (about.mode(), about.gid());
        if allowed(&self.user, mode, about.uid(), gid, rights) {
            return Ok(());
        }
        let group = self.group_of(gid);
        Err(format!("it belongs to the group {group}, mode {:03o}", mode & 0o777))
    }

    /// The name of the group that a file belongs to.
    pub(crate) fn group(&self, path: &Path) -> Option<String> {
        let gid = fs::metadata(self.path(path)).ok()?.gid();
        Some(self.group_of(gid))
    }

    fn group_of(&self, gid: u32) -> String {
        let found = self.groups.iter().find(|group| group.gid == gid);
        found.map_or_else(|| gid.to_string(), |group| group.name.clone())
    }
}

/// inode(7), "the file type and mode".
fn allowed(user: &User, mode: u32, uid: u32, gid: u32, rights: u32) -> bool {
    if user.uid == 0 {
        // To root only the right to execute must be somebody's.
        return true;
    }
    let granted = if user.uid == uid {
        mode >> 6
    } else if user.gids.contains(&gid) {
        mode >> 3
    } else {
        mode
    };
    granted & rights == rights
}

fn read(root: &Path, path: &str) -> String {
    fs::read(root.join(path))
        .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
        .unwrap_or_default()
}

/// group(5).
fn groups(text: &str) -> Vec<Group> {
    let line = |line: &str| {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let gid = fields.nth(1)?.parse().ok()?;
        let members = fields.next().unwrap_or_default().split(',').map(str::to_owned).collect();
        Some(Group { name, gid, members })
    };
    text.lines().filter_map(line).collect()
}

/// passwd(5), with the groups that the unit gives beside the user's own.
fn service_user(passwd: &str, groups: &[Group], unit: &str) -> Option<User> {
    let line = passwd.lines().find(|line| line.split(':').next() == Some(SERVICE_USER))?;
    let mut fields = line.split(':').skip(2);
    let uid = fields.next()?.parse().ok()?;
    let mut gids = vec![fields.next()?.parse().ok()?];
    let given: Vec<&str> = unit
        .lines()
        .filter_map(|line| line.trim().strip_prefix("SupplementaryGroups="))
        .flat_map(str::split_ascii_whitespace)
        .collect();
    for group in groups {
        let member = group.members.iter().any(|member| member == SERVICE_USER);
        if member || given.contains(&group.name.as_str()) {
            gids.push(group.gid);
        }
    }
    Some(User { name: SERVICE_USER.to_owned(), uid, gids })
}

/// The unit as it is installed, the administrator's before the package's, with
/// what is added to it.
fn unit(root: &Path) -> String {
    let folders = ["etc/systemd/system", "usr/lib/systemd/system", "lib/systemd/system"];
    let file = folders.iter().map(|folder| read(root, &format!("{folder}/tidemill.service")));
    let mut unit = file.into_iter().find(|text| !text.is_empty()).unwrap_or_default();
    let added = fs::read_dir(root.join("etc/systemd/system/tidemill.service.d"));
    for file in added.into_iter().flatten().flatten() {
        unit.push('\n');
        unit += &fs::read_to_string(file.path()).unwrap_or_default();
    }
    unit
}

/// proc(5), `/proc/self/status`.
fn myself(status: &str) -> User {
    let numbers = |key: &str| -> Vec<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(key)).unwrap_or_default();
        line.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect()
    };
    // Real, effective, saved, file system.
    let (uids, gids) = (numbers("Uid:"), numbers("Gid:"));
    let mut all = numbers("Groups:");
    all.extend(gids.get(1));
    User { name: "you".to_owned(), uid: uids.get(1).copied().unwrap_or(0), gids: all }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A machine in a folder, empty but for what a test puts there.
    pub(crate) struct Fake {
        dir: tempfile::TempDir,
    }

    impl Fake {
        pub(crate) fn new() -> Fake {
            Fake { dir: tempfile::tempdir().unwrap() }
        }

        pub(crate) fn root(&self) -> &Path {
            self.dir.path()
        }

        pub(crate) fn put(&self, file: &str, text: &str) -> &Fake {
            let path = self.root().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        pub(crate) fn link(&self, file: &str, target: &str) -> &Fake {
            let path = self.root().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
            self
        }

        /// A process that has files open.
        pub(crate) fn process(&self, pid: u32, name: &str, files: &[&str]) -> &Fake {
            self.put(&format!("proc/{pid}/comm"), &format!("{name}\n"));
            for (number, file) in files.iter().enumerate() {
                self.link(&format!("proc/{pid}/fd/{number}"), file);
            }
            self
        }

        pub(crate) fn machine(&self) -> Machine {
            Machine::at(self.root())
        }
    }

    const GROUPS: &str = "root:x:0:\ndialout:x:20:tidemill\ngpio:x:997:\ntidemill:x:998:\n";

    #[test]
    fn the_service_s_user_has_its_groups_and_those_of_the_unit() {
        let fake = Fake::new();
        fake.put("etc/passwd", "root:x:0:0::/root:/bin/sh\ntidemill:x:996:998::/:/bin/false\n")
            .put("etc/group", GROUPS)
            .put(
                "lib/systemd/system/tidemill.service",
                "[Service]\nSupplementaryGroups=gpio i2c\n",
            );
        let machine = fake.machine();
        let user = User { name: "tidemill".into(), uid: 996, gids: vec![998, 20, 997] };
        assert_eq!(machine.user, user);
        assert!(machine.is_in("dialout") && machine.is_in("gpio") && !machine.is_in("root"));
    }

    #[test]
    fn without_the_service_it_is_whoever_asks() {
        let fake = Fake::new();
        fake.put(
            "proc/self/status",
            "Name:\tx\nUid:\t1000\t1001\t1000\t1000\nGid:\t7\t7\t7\t7\nGroups:\t20 44\n",
        );
        let user = User { name: "you".into(), uid: 1001, gids: vec![20, 44, 7] };
        assert_eq!(fake.machine().user, user);
    }

    #[test]
    fn rights_are_the_owner_s_or_the_group_s_or_everybody_s() {
        let user = |uid, gid| User { name: "u".into(), uid, gids: vec![gid] };
        let device = |user: &User| allowed(user, 0o660, 0, 20, READ | WRITE);
        assert!(device(&user(0, 0)) && device(&user(5, 20)) && !device(&user(5, 21)));
        // The owner's bits rule for the owner, even where others have more.
        assert!(!allowed(&user(5, 20), 0o066, 5, 20, READ));
        assert!(allowed(&user(5, 1), 0o604, 6, 20, READ));
        assert!(!allowed(&user(5, 1), 0o604, 6, 20, READ | WRITE));
    }
}
