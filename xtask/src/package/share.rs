//! What is made for the package: man pages, completions, changelog, copyright,
//! list of ingredients, scripts of the maintainer.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

use super::control::Control;
use super::{Board, ingredients};
use crate::{root, step};

/// Makes all of it in `work`.
pub(crate) fn make(work: &Path, control: &Control, binary: &Path, board: Board) -> Result<()> {
    let (share, scripts) = (work.join("share"), work.join("scripts"));
    for folder in [&share, &scripts] {
        if folder.exists() {
            fs::remove_dir_all(folder)?;
        }
        fs::create_dir_all(folder)?;
    }
    pages(&share, binary, board)?;
    let libraries = ingredients::all(board)?;
    let bill = ingredients::bill(&libraries, control.version(), board);
    fs::write(share.join("tidemill.cdx.json"), bill)?;
    zipped(&share.join("third-party-licences.txt"), &ingredients::texts(&libraries)?)?;
    zipped(&share.join("changelog.Debian"), &changelog(control.version())?)?;
    fs::write(share.join("copyright"), copyright()?)?;
    for name in ["preinst", "postinst", "prerm", "postrm"] {
        let text = fs::read_to_string(root().join("packaging").join(name))?;
        let text = text.replace("@VARIANT@", board.variant).replace("@VERSION@", control.version());
        fs::write(scripts.join(name), text)?;
    }
    Ok(())
}

/// Man pages and completions, from the command line's own definition: from the
/// binary when it runs here, else from one built for here.
fn pages(share: &Path, binary: &Path, board: Board) -> Result<()> {
    let generate = if board.native() {
        let mut generate = Command::new(binary);
        generate.arg("generate").arg(share);
        generate
    } else {
        let mut generate = step::cargo(&["run", "--quiet", "--package", "tidemill", "--"]);
        generate.arg("generate").arg(share);
        generate
    };
    step::run("man pages", generate)?;
    for entry in fs::read_dir(share.join("man"))? {
        let path = entry?.path();
        let text = fs::read_to_string(&path)?;
        fs::remove_file(&path)?;
        zipped(&path, &text)?;
    }
    Ok(())
}

/// `path` with `.gz`: no name and no time stamp inside, so the same every time.
fn zipped(path: &Path, text: &str) -> Result<()> {
    let mut name = path.to_owned().into_os_string();
    name.push(".gz");
    fs::write(path, text)?;
    let output = fs::File::create(&name)?;
    let input = fs::File::open(path)?;
    let status = Command::new("gzip")
        .arg("-9n")
        .stdin(input)
        .stdout(Stdio::from(output))
        .status()
        .context("gzip")?;
    fs::remove_file(path)?;
    if !status.success() {
        bail!("gzip failed on {}", path.display());
    }
    Ok(())
}

/// The newest entry of CHANGELOG.md, as Debian writes it.
fn changelog(version: &str) -> Result<String> {
    let text = fs::read_to_string(root().join("CHANGELOG.md"))?;
    let newest = text.split("\n## ").nth(1).unwrap_or_default();
    let entry: String = newest.lines().skip(1).filter(|line| !line.trim().is_empty()).fold(
        String::new(),
        |text, line| {
            let (mark, line) = match line.strip_prefix("- ") {
                Some(line) => ("  * ", line),
                None if text.is_empty() => ("  * ", line),
                None => ("    ", line.trim_start()),
            };
            text + mark + line + "\n"
        },
    );
    let date = Command::new("date")
        .args(["-u", "-R", "-d", &format!("@{}", super::epoch())])
        .output()
        .context("date")?;
    let date = String::from_utf8(date.stdout)?;
    Ok(format!(
        "tidemill ({version}) unstable; urgency=medium\n\n{entry}\n \
         -- The Tidemill authors <tidemill@users.noreply.github.com>  {date}"
    ))
}

/// Debian's machine-readable form, with our licence's text in it.
fn copyright() -> Result<String> {
    let form = fs::read_to_string(root().join("packaging/copyright"))?;
    let mit = fs::read_to_string(root().join("LICENSE-MIT"))?;
    let mit: Vec<String> = mit
        .trim()
        .lines()
        .map(|line| if line.trim().is_empty() { " .".to_owned() } else { format!(" {line}") })
        .collect();
    Ok(form.replace("@MIT@", &mit.join("\n")))
}
