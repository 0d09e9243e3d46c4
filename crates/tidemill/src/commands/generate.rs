//! `tidemill generate DIR`: man pages and shell completions, for packages. They
//! come from the same definitions as `--help`, so they can't disagree with it.

use std::fs::{self, File};
use std::path::Path;

use anyhow::Context;
use clap::Command;
use clap_complete::Shell;
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, roman};

/// The shells whose completions a package has a folder for.
const SHELLS: &[Shell] = &[Shell::Bash, Shell::Zsh, Shell::Fish];

/// What the page of the whole program says beside its options.
const EXAMPLES: &[(&str, &str)] = &[
    ("tidemill demo", "The whole gateway with simulated devices, on any machine."),
    ("tidemill check --config new.toml", "Every mistake of a configuration at once."),
    ("tidemill status", "How devices, store and forwarders are."),
    ("tidemill watch --json | jq .", "The live readings, one object a line."),
    (
        "tidemill handshake wss://broker.example.com:8884/mqtt --mqtt",
        "Why a broker can't be reached: each step of the opening handshake, with CONNECT.",
    ),
    ("systemctl reload tidemill", "Reads the configuration again; a wrong one changes nothing."),
    ("journalctl -u tidemill FORWARDER=cloud", "What the log says about one forwarder."),
];

const FILES: &[(&str, &str)] = &[
    ("/etc/tidemill/tidemill.toml", "The configuration, every key explained."),
    ("/etc/tidemill/secrets/", "For password files; readable by root and the gateway."),
    ("/etc/credstore/tidemill.*", "Credentials that systemd hands over; .encrypted likewise."),
    ("/var/lib/tidemill/tidemill.db", "The store, readable by sqlite3(1) while the service runs."),
    ("/run/tidemill/control.sock", "Where the commands reach the running gateway."),
];

const STATUS: &[(&str, &str)] = &[
    ("0", "Done."),
    ("1", "It failed; stderr names the thing and the mend."),
    ("2", "Wrong usage."),
    ("78", "The configuration is invalid; systemd doesn't restart on it."),
];

/// Writes `man/*.1` and `completions/…` into a folder.
///
/// # Errors
/// When the folder can't be written.
pub(crate) fn run(folder: &Path, mut command: Command) -> anyhow::Result<()> {
    let (man, completions) = (folder.join("man"), folder.join("completions"));
    for folder in [&man, &completions] {
        fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    }
    let name = command.get_name().to_owned();
    for shell in SHELLS {
        clap_complete::generate_to(*shell, &mut command, &name, &completions)
            .with_context(|| format!("write the completions for {shell}"))?;
    }
    command.build();
    page(&man, &name, command.clone(), true)?;
    for sub in command.get_subcommands().filter(|sub| !sub.is_hide_set()) {
        if sub.get_name() != "help" {
            let title = format!("{name}-{}", sub.get_name());
            page(&man, &title, sub.clone(), false)?;
        }
    }
    Ok(())
}

fn page(folder: &Path, title: &str, command: Command, whole: bool) -> anyhow::Result<()> {
    let path = folder.join(format!("{title}.1"));
    let mut file = File::create(&path).with_context(|| format!("make {}", path.display()))?;
    let man = Man::new(command).title(title).manual("Tidemill").date("");
    man.render(&mut file)?;
    if whole {
        let mut more = Roff::new();
        for (heading, entries) in
            [("EXAMPLES", EXAMPLES), ("FILES", FILES), ("EXIT STATUS", STATUS)]
        {
            more.control("SH", [heading]);
            for (term, meaning) in entries {
                more.control("TP", []);
                more.text([bold(*term)]);
                more.text([roman(*meaning)]);
            }
        }
        more.to_writer(&mut file)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Arg;

    use super::*;

    #[test]
    fn each_command_has_a_page_and_each_shell_its_completions() {
        let folder = tempfile::tempdir().unwrap();
        let command = Command::new("tidemill")
            .about("a gateway")
            .version("1.2.3")
            .subcommand(Command::new("check").about("checks").arg(Arg::new("file").long("file")))
            .subcommand(Command::new("inner").hide(true));
        run(folder.path(), command).unwrap();
        let read = |name: &str| fs::read_to_string(folder.path().join(name)).unwrap();
        let page = read("man/tidemill.1");
        for part in ["EXAMPLES", "FILES", "EXIT STATUS", "tidemill.toml", "a gateway"] {
            assert!(page.contains(part), "{part}: {page}");
        }
        assert!(read("man/tidemill-check.1").contains("file"));
        assert!(!folder.path().join("man/tidemill-inner.1").exists(), "hidden ones have none");
        for name in ["tidemill.bash", "_tidemill", "tidemill.fish"] {
            assert!(read(&format!("completions/{name}")).contains("check"), "{name}");
        }
    }
}
