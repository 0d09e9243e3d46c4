//! `cargo xtask package`: the .deb.
//!
//! What is in it, and what it says of itself, is `[package.metadata.deb]` of
//! the crate `tidemill`, as cargo-deb has it; what must be made first (man
//! pages, completions, the list of ingredients) is made here, and `dpkg-deb`
//! does the rest. So nothing but Debian's own tools is needed.

mod arguments;
mod control;
mod ingredients;
mod share;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

pub(crate) use arguments::{Arguments, Board};
use control::Control;
pub(crate) use control::newest;

use crate::setup::{self, Need};
use crate::{root, step};

/// For the package.
const TO_PACKAGE: &[Need] = &[
    setup::of("dpkg-deb", "dpkg", "builds the package"),
    setup::of("readelf", "binutils", "tells which libc the binary needs"),
    setup::of("gzip", "gzip", "packs documentation"),
    setup::of("lintian", "lintian", "checks the package"),
];

/// What cargo-deb replaces by the binary for the target.
const BINARY: &str = "target/release/tidemill";

const USAGE: &str = "\
usage: cargo xtask package [--target TRIPLE] [--binary FILE] [--version VERSION] [--no-lintian]

Builds the .deb for this machine, or for --target with the binary that
`cargo xtask cross` has made. --binary takes another one, --version names it
another version (to test upgrades).";

/// Builds the package as the arguments say.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    if arguments.iter().any(|argument| argument == "--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let arguments = Arguments::parse(arguments)?;
    setup::need(setup::TO_BUILD)?;
    let deb = build(&arguments)?;
    if arguments.lintian {
        lint(&deb)?;
    }
    println!("{}", deb.display());
    Ok(())
}

/// Builds the package; the answer is where it lies.
pub(crate) fn build(arguments: &Arguments) -> Result<PathBuf> {
    setup::need(TO_PACKAGE)?;
    let board = arguments.board;
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None if board.native() => {
            let build = ["build", "--release", "--locked", "--package", "tidemill"];
            step::run("build", step::cargo(&build))?;
            step::target().join("release/tidemill")
        }
        None => board.built(),
    };
    if !binary.is_file() {
        bail!("there is no {}: `cargo xtask cross {}` builds it", binary.display(), board.triple);
    }
    let work = step::target().join("package");
    let version = arguments.version()?;
    let control = Control::read(&version, board)?;
    share::make(&work, &control, &binary, board)?;
    let staged = stage(&work, &control, &binary)?;
    let deb = step::target().join("debian").join(control.file_name());
    fs::create_dir_all(deb.parent().context("a folder")?)?;
    let mut pack = Command::new("dpkg-deb");
    // xz, since Debian 11's dpkg knows no zstd; a trial doesn't wait for it.
    let compression = if arguments.quick { ["-Zgzip", "-z1"] } else { ["-Zxz", "-z6"] };
    pack.arg("--root-owner-group").args(compression).arg("--build").arg(&staged).arg(&deb);
    pack.env("SOURCE_DATE_EPOCH", epoch());
    step::run("package", pack)?;
    Ok(deb)
}

/// Lays the files out as they will be installed.
fn stage(work: &Path, control: &Control, binary: &Path) -> Result<PathBuf> {
    let staged = work.join("root");
    if staged.exists() {
        fs::remove_dir_all(&staged)?;
    }
    let home = root().join("crates/tidemill");
    for asset in control.assets() {
        let (sources, named) = match asset.source.as_str() {
            BINARY => (vec![binary.to_owned()], Some(Path::new(BINARY))),
            source => (found(&home, source, work)?, None),
        };
        for source in sources {
            let to = staged.join(asset.placed(named.unwrap_or(&source)));
            fs::create_dir_all(to.parent().context("a folder")?)?;
            fs::copy(&source, &to).with_context(|| format!("copy {}", source.display()))?;
            fs::set_permissions(&to, fs::Permissions::from_mode(asset.mode))?;
        }
    }
    let installed = staged.join("usr/bin/tidemill");
    // A binary for a test may still have its debugging symbols.
    if control.board().native() {
        step::run("strip", step::program("strip", &[&installed.to_string_lossy()], "."))?;
    }
    let debian = staged.join("DEBIAN");
    fs::create_dir_all(&debian)?;
    for name in ["preinst", "postinst", "prerm", "postrm"] {
        let to = debian.join(name);
        fs::copy(work.join("scripts").join(name), &to)?;
        fs::set_permissions(&to, fs::Permissions::from_mode(0o755))?;
    }
    let size = installed_size(&staged)?;
    fs::write(debian.join("control"), control.text(&installed, size)?)?;
    fs::write(debian.join("conffiles"), control.conffiles())?;
    fs::write(debian.join("md5sums"), sums(&staged)?)?;
    // Whatever umask this runs under.
    fold(&staged, &mut |path, is_folder| {
        if is_folder {
            fs::set_permissions(path, fs::Permissions::from_mode(0o755))?;
        }
        Ok(())
    })?;
    Ok(staged)
}

/// The files that an asset names; a star stands for any name in its folder.
fn found(home: &Path, source: &str, work: &Path) -> Result<Vec<PathBuf>> {
    // cargo may build elsewhere.
    let path = match source.strip_prefix("../../target/package/") {
        Some(rest) => work.join(rest),
        None => home.join(source),
    };
    let name = path.file_name().context("a file")?.to_string_lossy().into_owned();
    let Some((before, after)) = name.split_once('*') else { return Ok(vec![path]) };
    let folder = path.parent().context("a folder")?;
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_file() && name.starts_with(before) && name.ends_with(after) {
            files.push(path);
        }
    }
    files.sort();
    if files.is_empty() {
        bail!("no file is {source}");
    }
    Ok(files)
}

/// Visits everything below a folder, folders after their content.
fn fold(folder: &Path, visit: &mut impl FnMut(&Path, bool) -> Result<()>) -> Result<()> {
    let mut paths: Vec<PathBuf> = Vec::new();
    for entry in fs::read_dir(folder)? {
        paths.push(entry?.path());
    }
    paths.sort();
    for path in paths {
        if path.is_dir() {
            fold(&path, visit)?;
        } else {
            visit(&path, false)?;
        }
    }
    visit(folder, true)
}

/// KiB, as Debian's policy counts them.
fn installed_size(staged: &Path) -> Result<u64> {
    let mut size = 0;
    fold(staged, &mut |path, is_folder| {
        size += if is_folder { 1 } else { fs::metadata(path)?.len().div_ceil(1024) };
        Ok(())
    })?;
    Ok(size)
}

fn sums(staged: &Path) -> Result<String> {
    let mut files = Vec::new();
    fold(staged, &mut |path, is_folder| {
        let inside = path.strip_prefix(staged)?;
        if !is_folder && !inside.starts_with("DEBIAN") {
            files.push(inside.to_owned());
        }
        Ok(())
    })?;
    let output = Command::new("md5sum").args(&files).current_dir(staged).output()?;
    if !output.status.success() {
        bail!("md5sum failed: {}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

/// The time of the last commit: the same sources give the same package.
fn epoch() -> String {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok();
    told.or_else(|| {
        let output = step::program("git", &["log", "-1", "--format=%ct"], ".").output().ok()?;
        Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
    })
    .filter(|text| !text.is_empty())
    .unwrap_or_else(|| "0".to_owned())
}

/// What Debian's own checker says: no errors.
pub(crate) fn lint(deb: &Path) -> Result<()> {
    let mut lintian = Command::new("lintian");
    // Root is who builds in a container; lintian only warns of it.
    lintian.args(["--fail-on", "error", "--tag-display-limit", "0", "--allow-root"]).arg(deb);
    step::run("lintian", lintian)
}
