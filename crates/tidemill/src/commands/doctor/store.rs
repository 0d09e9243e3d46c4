//! Whether the store's file can be written, and who has it.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::disk;
use super::finding::Finding;
use super::machine::{ENTER, Machine, READ, WRITE};

pub(super) fn probe(machine: &Machine, config: &::store::Config) -> Vec<Finding> {
    let path = config.path.as_path();
    let used = fs::metadata(machine.path(path)).map(|about| about.len()).unwrap_or(0);
    let mut findings = vec![writable(machine, path)];
    findings.extend(lock(machine, path));
    let there = path.ancestors().find(|at| machine.path(at).exists());
    let there = there.unwrap_or(Path::new("/"));
    findings.extend(disk::probe(machine, there, config.max_size.as_u64(), used));
    findings
}

fn writable(machine: &Machine, path: &Path) -> Finding {
    let name = path.display();
    let user = &machine.user.name;
    let at = machine.path(path);
    if at.is_dir() {
        let mend = format!("set store.path to a file in it: \"{name}/tidemill.db\"");
        return Finding::fail("store", format!("{name} is a folder"), mend);
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    let shown = folder.display();
    if machine.path(folder).exists() && !machine.path(folder).is_dir() {
        let mend = "set store.path to a file in a folder";
        return Finding::fail("store", format!("{shown} is not a folder"), mend);
    }
    if !machine.path(folder).exists() {
        if machine.is_service() && folder == Path::new("/var/lib/tidemill") {
            let said = format!("{shown} isn't there yet; the service makes it when it starts");
            return Finding::ok("store", said);
        }
        let above = folder.ancestors().find(|at| machine.path(at).exists());
        return match machine.may(above.unwrap_or(Path::new("/")), READ | WRITE | ENTER) {
            Ok(()) => Finding::ok("store", format!("{shown} isn't there yet and can be made")),
            Err(why) => Finding::fail(
                "store",
                format!("{shown} isn't there, and {user} may not make it ({why})"),
                format!("sudo install -d -o {user} {shown}"),
            ),
        };
    }
    let mend = format!("sudo chown -R {user} {shown}");
    if let Err(why) = machine.may(folder, READ | WRITE | ENTER) {
        let found = format!("{user} may not write into {shown} ({why})");
        return Finding::fail("store", found, mend);
    }
    if at.exists()
        && let Err(why) = machine.may(path, READ | WRITE)
    {
        return Finding::fail("store", format!("{user} may not write {name} ({why})"), mend);
    }
    let state = if at.exists() { "may be written" } else { "will be made" };
    Finding::ok("store", format!("{name} {state}"))
}

/// Who has locked the store: proc(5), `/proc/locks`.
fn lock(machine: &Machine, path: &Path) -> Option<Finding> {
    let mut file = path.as_os_str().to_owned();
    file.push("-lock");
    let about = fs::metadata(machine.path(Path::new(&file))).ok()?;
    let id = format!(
        "{:02x}:{:02x}:{}",
        libc::major(about.dev()),
        libc::minor(about.dev()),
        about.ino()
    );
    let locks = machine.read("proc/locks");
    let line = locks.lines().find(|line| line.contains(" FLOCK ") && line.contains(&id))?;
    let pid = line.split_ascii_whitespace().nth(4)?.to_owned();
    let name = machine.read(&format!("proc/{pid}/comm")).trim().to_owned();
    Some(match name.as_str() {
        "tidemill" => Finding::ok("store lock", format!("held by tidemill (process {pid})")),
        _ => Finding::fail(
            "store lock",
            format!("{} is held by {name} (process {pid})", path.display()),
            "end that process, or name another file in store.path",
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::super::finding::Verdict;
    use super::super::machine::User;
    use super::super::machine::tests::Fake;
    use super::*;

    const DB: &str = "/var/lib/tidemill/tidemill.db";

    /// As a user to whom nothing of the test's belongs.
    fn stranger(fake: &Fake) -> Machine {
        let user = User { name: "tidemill".into(), uid: 4711, gids: vec![4711] };
        Machine { user, ..fake.machine() }
    }

    fn judged(machine: &Machine, path: &str) -> (Verdict, String) {
        let finding = writable(machine, Path::new(path));
        (finding.verdict, finding.found + "; " + &finding.mend.unwrap_or_default())
    }

    #[test]
    fn each_way_not_to_be_writable_has_its_mend() {
        let fake = Fake::new();
        fake.put("srv/other/file", "").put("var/lib/x", "");
        let machine = stranger(&fake);
        for (path, said) in [
            (
                "/srv/other",
                "is a folder; set store.path to a file in it: \"/srv/other/tidemill.db\"",
            ),
            ("/srv/other/file/tidemill.db", "/srv/other/file is not a folder"),
            ("/srv/new/a.db", "tidemill may not make it"),
            ("/srv/other/a.db", "sudo chown -R tidemill /srv/other"),
        ] {
            let (verdict, found) = judged(&machine, path);
            assert_eq!(verdict, Verdict::Fail, "{path}: {found}");
            assert!(found.contains(said), "{path}: {found}");
        }
        let (verdict, found) = judged(&machine, DB);
        assert_eq!(verdict, Verdict::Ok, "{found}");
        assert!(found.contains("the service makes it"), "{found}");
    }

    #[test]
    fn what_belongs_to_the_user_may_be_written() {
        let fake = Fake::new();
        fake.put("srv/tidemill.db", "");
        let own = fs::metadata(fake.root()).unwrap();
        let user = User { name: "tidemill".into(), uid: own.uid(), gids: vec![own.gid()] };
        let machine = Machine { user, ..fake.machine() };
        assert_eq!(judged(&machine, "/srv/tidemill.db").0, Verdict::Ok);
        assert_eq!(judged(&machine, "/srv/new/tidemill.db").0, Verdict::Ok);
    }

    #[test]
    fn a_lock_names_its_holder() {
        let fake = Fake::new();
        fake.put("srv/a.db-lock", "").process(77, "sqlitebrowser", &[]);
        let about = fs::metadata(fake.root().join("srv/a.db-lock")).unwrap();
        let (major, minor) = (libc::major(about.dev()), libc::minor(about.dev()));
        let row =
            format!("1: FLOCK  ADVISORY  WRITE 77 {major:02x}:{minor:02x}:{} 0 EOF\n", about.ino());
        let path = Path::new("/srv/a.db");
        assert_eq!(lock(&fake.machine(), path), None);
        fake.put("proc/locks", &row);
        let held = lock(&fake.machine(), path).unwrap();
        assert_eq!(held.verdict, Verdict::Fail);
        assert!(held.found.contains("sqlitebrowser (process 77)"), "{}", held.found);
        fake.put("proc/77/comm", "tidemill\n");
        assert_eq!(lock(&fake.machine(), path).unwrap().verdict, Verdict::Ok);
    }
}
