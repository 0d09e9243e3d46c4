//! What must hold on any Debian with systemd, each by its own name.

use std::io::Read as _;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::guest::{Guest, PATIENCE};

/// Two packages of the same program, so that one can be upgraded to the other.
pub(crate) struct Packages {
    pub(crate) old: PathBuf,
    pub(crate) new: PathBuf,
}

fn name(deb: &Path) -> Result<String> {
    Ok(deb.file_name().context("a file")?.to_string_lossy().into_owned())
}

fn apt(guest: &Guest, deb: &Path, more: &str) -> Result<String> {
    guest.put(deb, "/root")?;
    let deb = name(deb)?;
    guest.sh(&format!(
        "export DEBIAN_FRONTEND=noninteractive
         apt-get install -y -qq --no-install-recommends {more} /root/{deb} 2>&1"
    ))
}

/// Readings of a channel that a person would look at first.
fn live(guest: &Guest) -> Result<Option<String>> {
    let channels: Value = serde_json::from_str(&guest.get("/api/v1/channels")?)?;
    let all = channels["channels"].as_array().context("channels")?;
    let shown = |name: &str| {
        let channel = all.iter().find(|channel| channel["channel"] == name)?;
        let value = channel["last"]["value"].as_f64()?;
        Some(format!("{name} {value}"))
    };
    // A container has no thermometer of its own; a board has.
    Ok(shown("board/load").or_else(|| shown("board/load_1m")).or_else(|| {
        let board = all
            .iter()
            .find(|channel| channel["device"] == "board" && channel["last"]["value"].is_number())?;
        shown(board["channel"].as_str()?)
    }))
}

pub(crate) fn install(guest: &Guest, deb: &Path) -> Result<String> {
    let told = apt(guest, deb, "")?;
    let links: Vec<&str> =
        told.split_whitespace().filter(|word| word.starts_with("http")).collect();
    ensure!(told.contains("Tidemill runs"), "it doesn't say that it runs: {told}");
    ensure!(!links.is_empty(), "it doesn't say where to look: {told}");
    Ok(format!("it runs, and says where to look: {}", links[0]))
}

/// The page and live values, seen from outside, with the configuration as it
/// came.
pub(crate) fn page(guest: &Guest) -> Result<String> {
    let page = guest.get("/")?;
    ensure!(page.contains("<html") && page.contains("Tidemill"), "the page is not ours: {page}");
    let (shown, took) = guest.until("a live value", PATIENCE, || live(guest))?;
    Ok(format!("served, and {shown} without any configuration, {:.1} s", took.as_secs_f64()))
}

/// From exec to READY=1, as systemd counts it.
pub(crate) fn ready(guest: &Guest, limit: Duration) -> Result<String> {
    let mut times = Vec::new();
    for _ in 0..5 {
        guest.sh("systemctl restart tidemill")?;
        let began: u64 = guest.property("ExecMainStartTimestampMonotonic")?.parse()?;
        let ready: u64 = guest.property("ActiveEnterTimestampMonotonic")?.parse()?;
        times.push(ready.saturating_sub(began) / 1000);
    }
    times.sort_unstable();
    let middle = times[times.len() / 2];
    ensure!(u128::from(middle) <= limit.as_millis(), "{middle} ms, of {times:?}");
    Ok(format!("{middle} ms after exec (five starts: {times:?})"))
}

pub(crate) fn owner(guest: &Guest) -> Result<String> {
    let pid = guest.pid()?;
    let user = guest.sh(&format!("stat -c %U /proc/{pid}"))?;
    let folder = guest.sh("stat -c '%U:%G %a' /var/lib/tidemill")?;
    let others = guest.sh("find /var/lib/tidemill /run/tidemill -perm /o=rwx ! -type l | head")?;
    ensure!(user == "tidemill" && folder == "tidemill:tidemill 750", "{user} {folder}");
    ensure!(others.is_empty(), "others may touch {others}");
    Ok(format!("runs as {user}; its folder is {folder}; others may touch nothing"))
}

pub(crate) fn exposure(guest: &Guest) -> Result<String> {
    let told = guest.sh("systemd-analyze security --no-pager tidemill | tail -1")?;
    let level = told.split(": ").nth(1).and_then(|rest| rest.split(' ').next());
    let level: f64 = level.context(told.clone())?.parse()?;
    ensure!(level <= 1.3, "{told}");
    Ok(format!("systemd-analyze security: {level}"))
}

/// The same sandbox, with a program in it that tries to get out.
pub(crate) fn sandbox(guest: &Guest) -> Result<String> {
    guest.write("/root/probe.py", PROBE)?;
    let told = guest.sh(
        r"install -m 755 /root/probe.py /usr/local/bin/tidemill-probe
        sed -e 's/^Type=.*/Type=oneshot/' -e 's,^ExecStart=.*,ExecStart=/usr/bin/python3 /usr/local/bin/tidemill-probe,' \
          -e '/^ExecReload/d' -e '/^Restart/d' -e '/^WatchdogSec/d' -e '/^NotifyAccess/d' -e '/^RuntimeDirectory/d' \
          /usr/lib/systemd/system/tidemill.service >/run/systemd/system/tidemill-probe.service
        systemctl daemon-reload
        systemctl start tidemill-probe || true
        journalctl -u tidemill-probe -o cat --no-pager | grep '^probe:'
        rm /run/systemd/system/tidemill-probe.service /usr/local/bin/tidemill-probe
        systemctl daemon-reload",
    )?;
    let open: Vec<&str> = told.lines().filter(|line| line.contains("OPEN")).collect();
    ensure!(open.is_empty(), "{}", open.join("; "));
    let count = told.lines().filter(|line| line.contains("refused")).count();
    ensure!(count >= 10 && told.contains("own folder writable"), "{told}");
    Ok(format!("{count} ways out are refused, its own folder is writable"))
}

/// Each line: what it tries, and whether the sandbox refuses it.
const PROBE: &str = r#"
import ctypes, mmap, os, socket
def refused(name, attempt):
    try:
        attempt()
    except (OSError, ValueError) as error:
        print(f"probe: {name}: refused ({error})", flush=True)
    else:
        print(f"probe: {name}: OPEN", flush=True)
def call(name, *arguments):
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) < 0:
        raise OSError(ctypes.get_errno(), name)
refused("write /etc", lambda: open("/etc/probe", "w"))
refused("write its own configuration", lambda: open("/etc/tidemill/tidemill.toml", "a"))
refused("write /usr", lambda: open("/usr/bin/probe", "w"))
refused("write /var/tmp of others", lambda: open("/var/lib/dpkg/probe", "w"))
refused("read /root", lambda: os.listdir("/root"))
refused("read /home", lambda: open("/home/probe", "w"))
refused("raw socket", lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1))
refused("packet socket", lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0))
refused("memory writable and executable", lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ|mmap.PROT_WRITE|mmap.PROT_EXEC))
refused("mount", lambda: call("mount", b"none", b"/mnt", b"tmpfs", 0, None))
refused("become root", lambda: os.setuid(0))
refused("new name space", lambda: call("unshare", 0x10000000))
refused("set the clock", lambda: call("clock_settime", 0, ctypes.byref((ctypes.c_long * 2)(0, 0))))
refused("kernel memory", lambda: open("/dev/mem", "rb"))
refused("a disk", lambda: os.mknod("/var/lib/tidemill/disk", 0o60600, os.makedev(8, 0)))
refused("set-user-id file", lambda: (open("/var/lib/tidemill/suid", "w"), os.chmod("/var/lib/tidemill/suid", 0o4755)))
refused("kernel tunable", lambda: open("/proc/sys/kernel/hostname", "w"))
open("/var/lib/tidemill/probe", "w"); os.remove("/var/lib/tidemill/probe")
try: os.remove("/var/lib/tidemill/suid")
except OSError: pass
print("probe: own folder writable", flush=True)
"#;

pub(crate) fn killed(guest: &Guest, limit: Duration) -> Result<String> {
    guest.until("a live value", PATIENCE, || live(guest))?;
    let pid = guest.pid()?;
    guest.sh(&format!("kill -9 {pid}"))?;
    let took = guest.again(&pid, limit)?;
    Ok(format!("ready again after {:.1} s", took.as_secs_f64()))
}

/// A process that hangs as a whole.
pub(crate) fn stopped(guest: &Guest, limit: Duration) -> Result<String> {
    let pid = guest.pid()?;
    guest.sh(&format!("kill -STOP {pid}"))?;
    let took = guest.again(&pid, limit)?;
    let log = guest.sh("journalctl -u tidemill -o cat --no-pager -n 30")?;
    ensure!(log.contains("Watchdog timeout"), "{log}");
    Ok(format!("the watchdog had it running again after {:.0} s", took.as_secs_f64()))
}

/// One thread hangs, and everything else lives: the process answers, yet no
/// reading gets to the disk.
pub(crate) fn stalled(guest: &Guest) -> Result<String> {
    let pid = guest.pid()?;
    // The thread that writes is held as a debugger would.
    let holder = format!(
        "cat >/root/hold.py <<'END'
import ctypes, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
held = 0
for tid in os.listdir('/proc/{pid}/task'):
    name = open('/proc/{pid}/task/' + tid + '/comm').read()
    if name.startswith('store-writer'):
        if libc.ptrace(0x4206, int(tid), None, None) == 0 and libc.ptrace(0x4207, int(tid), None, None) == 0:
            held += 1
print(held, flush=True)
time.sleep(120)
END
(setsid python3 /root/hold.py >/root/held 2>&1 </dev/null &)
sleep 1; cat /root/held"
    );
    let held = guest.sh(&holder)?;
    ensure!(held.parse::<u32>().is_ok_and(|held| held > 0), "no thread could be held: {held:?}");
    guest.get("/healthz").context("the process answers all the same")?;
    let named = || {
        let log = guest.sh("journalctl -u tidemill -o verbose --no-pager -n 60")?;
        Ok((log.contains("PART=writer") && log.contains("makes no progress")).then_some(()))
    };
    let (_, told) = guest.until("the log names the writer", Duration::from_secs(90), named)?;
    let took = guest.again(&pid, Duration::from_secs(90));
    guest.sh("pkill -f /root/hold.py || true")?;
    let took = took? + told;
    Ok(format!(
        "the thread that writes was held: the log named the writer after {:.0} s, it ran again after {:.0} s",
        told.as_secs_f64(),
        took.as_secs_f64()
    ))
}

/// `text` after the configuration as it came.
fn configured(guest: &Guest, text: &str) -> Result<()> {
    guest
        .sh(&format!(
            "cd /etc/tidemill; [ -e /root/original.toml ] || cp tidemill.toml /root/original.toml
         cp /root/original.toml tidemill.toml; cat >>tidemill.toml <<'END'\n{text}\nEND\n"
        ))
        .map(drop)
}

/// The configuration as it came, and running.
fn restored(guest: &Guest) -> Result<()> {
    guest
        .sh("cp /root/original.toml /etc/tidemill/tidemill.toml; systemctl restart tidemill")
        .map(drop)
}

pub(crate) fn invalid(guest: &Guest) -> Result<String> {
    configured(guest, "[device.weather]\ndriver = \"serial\"\nboud = 9600")?;
    let pid = guest.pid()?;
    let reload = guest.try_sh("systemctl reload tidemill")?;
    ensure!(!reload.status.success(), "the reload of a wrong file succeeded");
    ensure!(guest.pid()? == pid, "the reload of a wrong file changed something");
    drop(guest.try_sh("systemctl restart tidemill")?);
    // Were it restarted, that would be within a second.
    let state = guest
        .sh("sleep 3; systemctl show -p ActiveState -p NRestarts -p ExecMainStatus tidemill")?;
    let log = guest.sh("journalctl -u tidemill -o cat --no-pager -n 20")?;
    restored(guest)?;
    ensure!(state.contains("ExecMainStatus=78") && state.contains("ActiveState=failed"), "{state}");
    ensure!(state.contains("NRestarts=0"), "it was restarted: {state}");
    ensure!(
        log.contains("tidemill.toml:") && log.contains("baud"),
        "the log doesn't say why: {log}"
    );
    Ok("a reload refuses it and changes nothing; a start ends with 78, says why, and isn't repeated".into())
}

pub(crate) fn reload(guest: &Guest) -> Result<String> {
    configured(guest, "[device.pond]\ndriver = \"sim\"\n[device.pond.channel]\nlevel = {}\n")
        .and_then(|()| guest.sh("tidemill check").map(drop))
        .or_else(|_| configured(guest, "[device.pond]\ndriver = \"system\"\n"))?;
    let pid = guest.pid()?;
    guest.sh("systemctl reload tidemill")?;
    let there = || {
        let channels = guest.get("/api/v1/channels")?;
        Ok(channels.contains("\"pond/").then_some(()))
    };
    let (_, took) = guest.until("the new device is there", PATIENCE, there)?;
    let same = guest.pid()? == pid;
    let state = guest.property("ActiveState")?;
    restored(guest)?;
    ensure!(same, "the process was replaced");
    ensure!(state == "active", "systemd has it as {state}");
    Ok(format!("a new device after {:.1} s, in the same process", took.as_secs_f64()))
}

/// A forwarder to this machine, which reads the CONNECT and looks for the
/// password in it.
fn password_arrives(guest: &Guest, host: &str, password: &str) -> Result<()> {
    let listener = TcpListener::bind((host, 0))?;
    let port = listener.local_addr()?.port();
    configured(
        guest,
        &format!(
            "[forward.cloud]\nurl = \"mqtt://{host}:{port}\"\nusername = \"pi\"\n\
             credential = \"tidemill.cloud\"\n"
        ),
    )?;
    guest.sh("systemctl restart tidemill")?;
    listener.set_nonblocking(true)?;
    let ((mut stream, _), _) =
        guest.until("the forwarder connects", PATIENCE, || Ok(listener.accept().ok()))?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    let mut bytes = [0; 1024];
    let count = stream.read(&mut bytes)?;
    let connect = String::from_utf8_lossy(&bytes[..count]).into_owned();
    ensure!(connect.contains(password), "the password isn't in CONNECT");
    Ok(())
}

pub(crate) fn credentials(guest: &Guest, host: &str) -> Result<String> {
    guest.sh("install -d -m 700 /etc/credstore /etc/credstore.encrypted; (umask 077; printf plain-0815 >/etc/credstore/tidemill.cloud)")?;
    let plain = password_arrives(guest, host, "plain-0815").context("ImportCredential");
    guest.sh(
        "rm /etc/credstore/tidemill.cloud
         printf secret-4711 | systemd-creds encrypt --with-key=host --name=tidemill.cloud - /etc/credstore.encrypted/tidemill.cloud",
    )?;
    let sealed = password_arrives(guest, host, "secret-4711").context("encrypted");
    guest.sh(
        "rm /etc/credstore.encrypted/tidemill.cloud; printf loaded-0042 >/root/cloud
         mkdir -p /etc/systemd/system/tidemill.service.d
         printf '[Service]\\nLoadCredential=tidemill.cloud:/root/cloud\\n' >/etc/systemd/system/tidemill.service.d/cloud.conf
         systemctl daemon-reload",
    )?;
    let loaded = password_arrives(guest, host, "loaded-0042").context("LoadCredential");
    let field = guest.sh("journalctl -u tidemill FORWARDER=cloud -o cat --no-pager -n 1");
    guest.sh("rm -r /etc/systemd/system/tidemill.service.d; systemctl daemon-reload")?;
    restored(guest)?;
    let leak = guest.sh(
        "journalctl -u tidemill --no-pager | grep -cE 'plain-0815|secret-4711|loaded-0042' || true",
    )?;
    plain?;
    sealed?;
    loaded?;
    ensure!(leak == "0", "a password is in the log");
    ensure!(!field?.is_empty(), "nothing in the log bears FORWARDER=cloud");
    Ok("from /etc/credstore, encrypted by systemd-creds, by LoadCredential=: each in CONNECT, none in the log".into())
}

pub(crate) fn journal(guest: &Guest) -> Result<String> {
    let device = guest.sh("journalctl -u tidemill DEVICE=board -o cat --no-pager -n 1")?;
    ensure!(!device.is_empty(), "nothing bears DEVICE=board");
    // FORWARDER= is seen where there is one: with the credentials.
    let limit = guest
        .sh("systemctl show -p LogRateLimitBurst -p LogRateLimitIntervalUSec --value tidemill")?;
    ensure!(limit.contains("300"), "{limit}");
    Ok(format!("DEVICE=board finds `{device}`; at most {} lines", limit.replace('\n', " in ")))
}

/// On a machine whose root can't be written.
pub(crate) fn read_only_root(guest: &Guest) -> Result<String> {
    let refused = !guest.try_sh("touch /etc/probe 2>/dev/null")?.status.success();
    ensure!(refused, "the root is writable");
    let running = guest.sh("systemctl is-active tidemill")?;
    guest.until("a live value", PATIENCE, || live(guest))?;
    let count = stores(guest)?;
    Ok(format!("{running}: starts with the machine, serves and stores ({count} readings more)"))
}

fn stored(guest: &Guest) -> Result<u64> {
    let status: Value = serde_json::from_str(&guest.get("/api/v1/status")?)?;
    status["ledger"]["stored"].as_u64().context("ledger.stored")
}

/// Waits until more is stored; how many more.
fn stores(guest: &Guest) -> Result<u64> {
    let before = stored(guest)?;
    let more = || Ok(Some(stored(guest)?.saturating_sub(before)).filter(|more| *more > 0));
    Ok(guest.until("readings are stored", PATIENCE, more)?.0)
}

/// A disk of its own, filled by somebody else.
pub(crate) fn full_disk(guest: &Guest) -> Result<String> {
    guest.sh(
        "systemctl stop tidemill
         mount -t tmpfs -o size=8m,mode=750,uid=$(id -u tidemill),gid=$(id -g tidemill) full /var/lib/tidemill
         systemctl start tidemill",
    )?;
    let tried = (|| {
        stores(guest)?;
        let pid = guest.pid()?;
        guest.sh("dd if=/dev/zero of=/var/lib/tidemill/filler bs=4k 2>/dev/null || true")?;
        let dropped = || {
            let status: Value = serde_json::from_str(&guest.get("/api/v1/status")?)?;
            let told = status["store"]["error"].as_str().map(str::to_owned);
            let count = status["ledger"]["dropped"].as_u64().unwrap_or(0);
            Ok(told.or((count > 0).then(|| format!("{count} dropped"))))
        };
        let (told, _) = guest.until("the loss is told", Duration::from_secs(60), dropped)?;
        guest.until("the feed goes on", PATIENCE, || live(guest))?;
        guest.sh("rm /var/lib/tidemill/filler")?;
        stores(guest).context("storing goes on by itself")?;
        ensure!(guest.pid()? == pid, "it was restarted");
        Ok(told)
    })();
    guest.sh("systemctl stop tidemill; umount /var/lib/tidemill; systemctl start tidemill")?;
    tried.map(|told| format!("told ({told}), nothing stopped, storing went on once there was room"))
}

/// Rows and an edited configuration before and after.
fn changed(guest: &Guest, deb: &Path, more: &str) -> Result<String> {
    configured(guest, "# kept by me")?;
    stores(guest)?;
    let (before, pid) = (stored(guest)?, guest.pid()?);
    apt(guest, deb, more)?;
    guest.again(&pid, PATIENCE)?;
    let (after, _) = guest.until("it answers", PATIENCE, || Ok(stored(guest).ok()))?;
    let kept = guest.sh("grep -c 'kept by me' /etc/tidemill/tidemill.toml || true")?;
    let version = guest.sh("dpkg-query -W -f '${Version}' tidemill")?;
    ensure!(after >= before, "readings are gone: {before} before, {after} after");
    ensure!(kept == "1", "the configuration was replaced");
    ensure!(name(deb)?.contains(&version), "version {version}");
    let rows = guest.sh(
        "runuser -u tidemill -- sqlite3 -readonly -cmd '.timeout 5000' /var/lib/tidemill/tidemill.db \
         'select count(*) from readings' 2>/dev/null || echo ?",
    )?;
    Ok(format!(
        "{version}, configuration kept, {before} readings before and {after} after ({rows} in the file)"
    ))
}

pub(crate) fn upgrade(guest: &Guest, packages: &Packages) -> Result<String> {
    changed(guest, &packages.new, "")
}

pub(crate) fn downgrade(guest: &Guest, packages: &Packages) -> Result<String> {
    changed(guest, &packages.old, "--allow-downgrades")
}

/// A repository of one's own, as docs/fleet.md has it: signed, with both
/// versions, the newest first and back again.
pub(crate) fn repository(guest: &Guest, packages: &Packages, folder: &Path) -> Result<String> {
    drop(std::fs::remove_dir_all(folder));
    let keys = folder.join("keys");
    std::fs::create_dir_all(&keys)?;
    let made = std::process::Command::new("sh")
        .args(["-ec", REPOSITORY, "sh"])
        .args([&packages.old, &packages.new])
        .env("GNUPGHOME", &keys)
        .env("SCRIPT", crate::root().join("packaging/repository"))
        .current_dir(folder)
        .output()?;
    ensure!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    guest.put(&folder.join("repository.tar"), "/root")?;
    let told = guest.sh(
        "cd /root; rm -rf repository; tar -xf repository.tar; chmod -R a+rX repository; chmod a+x /root
         echo 'deb [signed-by=/root/repository/tidemill.asc] file:/root/repository stable main' >/etc/apt/sources.list.d/tidemill.list
         export DEBIAN_FRONTEND=noninteractive
         # The mirror isn't reached from here.
         apt-get update -qq -o Dir::Etc::sourcelist=sources.list.d/tidemill.list -o Dir::Etc::sourceparts=- 2>&1
         apt-get install -y -qq --no-install-recommends tidemill 2>&1
         dpkg-query -W -f '${Version} ' tidemill
         apt-get install -y -qq --no-install-recommends --allow-downgrades tidemill=0.1.0-1 2>&1
         dpkg-query -W -f 'then ${Version}' tidemill
         rm /etc/apt/sources.list.d/tidemill.list; chmod go-x /root",
    )?;
    ensure!(told.contains("99.0-1") && told.ends_with("then 0.1.0-1"), "{told}");
    Ok("signed and taken by apt: 99.0-1, then back to 0.1.0-1".into())
}

/// A key for a day, and the script of the docs.
const REPOSITORY: &str = r#"
chmod 700 "$GNUPGHOME"
gpg --batch --quiet --passphrase '' --quick-gen-key 'Tidemill test' rsa2048 sign 1d
key=$(gpg --list-keys --with-colons | awk -F: '/^fpr/{print $10; exit}')
"$SCRIPT" --key "$key" --out repository "$1" "$2"
tar -cf repository.tar repository
gpgconf --kill all
"#;

pub(crate) fn removed(guest: &Guest, deb: &Path) -> Result<String> {
    let before = stored(guest)?;
    guest.sh("DEBIAN_FRONTEND=noninteractive apt-get remove -y -qq tidemill 2>&1")?;
    let left = guest.sh("[ ! -e /usr/bin/tidemill ] && ! pgrep -x tidemill >/dev/null && \
         [ -e /var/lib/tidemill/tidemill.db ] && [ -e /etc/tidemill/tidemill.toml ] && echo kept")?;
    ensure!(left == "kept", "after remove: {left}");
    apt(guest, deb, "")?;
    let (after, _) = guest.until("it answers", PATIENCE, || Ok(stored(guest).ok()))?;
    ensure!(after >= before, "{before} readings before, {after} after");
    guest.sh("DEBIAN_FRONTEND=noninteractive apt-get purge -y -qq tidemill 2>&1")?;
    let left = guest.sh(
        "find /etc /var/lib /usr/lib /usr/bin /run -path '*tidemill*' \
           -not -path '/var/lib/dpkg/*' -not -path '/var/lib/systemd/*' -not -path '/run/credentials*' 2>/dev/null | head",
    )?;
    ensure!(left.is_empty(), "purge leaves {left}");
    Ok("remove keeps readings and configuration, a new install goes on with them, purge leaves nothing".into())
}

/// The package for ARMv7 on an ARMv6 board: its script, with another `uname`.
pub(crate) fn variant(scripts: &Path) -> Result<String> {
    let script = std::fs::read_to_string(scripts.join("preinst"))?
        .replace("@VARIANT@", "armv7")
        .replace("@VERSION@", "1.0-1");
    let run = |machine: &str| {
        let text = format!("uname() {{ echo {machine}; }}\n{script}");
        std::process::Command::new("sh").args(["-c", &text, "preinst", "install"]).output()
    };
    let (old, new) = (run("armv6l")?, run("armv7l")?);
    let told = String::from_utf8_lossy(&old.stderr).trim().to_owned();
    ensure!(!old.status.success() && told.contains("armv6"), "ARMv6 is let in: {told}");
    if !new.status.success() {
        bail!("ARMv7 is refused: {}", String::from_utf8_lossy(&new.stderr));
    }
    Ok(told)
}

/// Power gone: what was committed is there after the next start.
pub(crate) fn power_cut(guest: &Guest, cut: &[&str], start: &[&str]) -> Result<String> {
    stores(guest)?;
    // A power cut loses at most `flush`, one second.
    let before = stored(guest)?;
    guest.sh("sleep 2")?;
    guest.act(cut)?;
    guest.act(start)?;
    let (after, took) =
        guest.until("it answers", Duration::from_secs(120), || Ok(stored(guest).ok()))?;
    ensure!(after >= before, "{before} readings were durable, {after} are there");
    let failed = guest.sh("systemctl is-active tidemill")?;
    Ok(format!(
        "{failed} {:.1} s after the start; {before} durable before, {after} now",
        took.as_secs_f64()
    ))
}
