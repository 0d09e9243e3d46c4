//! Builds the page in `web/` and writes the table of its files for
//! `src/assets.rs`.
//!
//! The bundle is never committed. When `web/dist` is at least as new as its
//! sources nothing is run, so a tree that was built once needs neither Node nor
//! the network.

use std::error::Error;
use std::fmt::Write as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

/// What the bundle is made from; `test/` and `dev/` don't change it.
const SOURCES: &[&str] = &[
    "index.html",
    "package.json",
    "package-lock.json",
    "tsconfig.json",
    "vite.config.ts",
    "public",
    "src",
];

/// The mend for a machine that can't build the page.
const INSTALL_NODE: &str = "the dashboard's page is built with Node 18 or newer and its npm: \
    install them (Debian, Raspberry Pi OS, Ubuntu: `sudo apt install nodejs npm`; \
    elsewhere: https://nodejs.org) and build again";

fn main() {
    if let Err(error) = run() {
        // Cargo shows the whole of stderr when a build script fails, so this is
        // all that a newcomer without Node has to read.
        eprintln!("error: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), Box<dyn Error>> {
    let web = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("web");
    let dist = web.join("dist");
    for source in SOURCES {
        println!("cargo::rerun-if-changed=web/{source}");
    }
    // Gone or built by hand: either way the table must be written again.
    println!("cargo::rerun-if-changed=web/dist/index.html");

    let index = dist.join("index.html");
    let newest = newest(&web)?;
    if modified(&index).is_none_or(|built| built < newest) {
        install(&web)?;
        npm(&web, &["run", "--silent", "build"])?;
        // Its time becomes that of its newest source: cargo, which compares it
        // with the time this script began, then doesn't run it a second time.
        let file = fs::OpenOptions::new().append(true).open(&index)?;
        file.set_modified(newest)?;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    fs::write(out.join("assets.rs"), table(&dist)?)?;
    Ok(())
}

/// Installs what the lock file names, unless that was done since it changed.
fn install(web: &Path) -> Result<(), Box<dyn Error>> {
    let done = modified(&web.join("node_modules/.package-lock.json"));
    let wanted = modified(&web.join("package-lock.json"));
    if done.is_some() && done >= wanted {
        return Ok(());
    }
    npm(web, &["ci"])
}

fn npm(web: &Path, args: &[&str]) -> Result<(), Box<dyn Error>> {
    let program = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let what = format!("npm {} (in {})", args.join(" "), web.display());
    let output = match Command::new(program).args(args).current_dir(web).output() {
        Ok(output) => output,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(format!("npm is not installed: {INSTALL_NODE}").into());
        }
        Err(error) => return Err(format!("{what}: {error}").into()),
    };
    if output.status.success() {
        return Ok(());
    }
    let said =
        [output.stdout, output.stderr].map(|said| String::from_utf8_lossy(&said).into_owned());
    Err(format!("{what}: {}\n{}\n{INSTALL_NODE}", output.status, said.join("\n")).into())
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).and_then(|metadata| metadata.modified()).ok()
}

/// The time of the newest source.
fn newest(web: &Path) -> io::Result<SystemTime> {
    let mut newest = SystemTime::UNIX_EPOCH;
    for source in SOURCES {
        let path = web.join(source);
        let files = if path.is_dir() { files(&path)? } else { vec![path] };
        for file in files {
            newest = newest.max(fs::metadata(&file)?.modified()?);
        }
    }
    Ok(newest)
}

/// Every file below a folder, in order, so that the same tree gives the same table.
fn files(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let path = entry?.path();
            if path.is_dir() { folders.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    Ok(found)
}

/// One `Asset { … }` for each file of the bundle. A file `x.gz` is the packed
/// form of `x`, written beside it by vite.config.ts.
fn table(dist: &Path) -> Result<String, Box<dyn Error>> {
    let files = files(dist)?;
    let mut table = String::from("&[\n");
    for file in files.iter().filter(|file| file.extension().is_none_or(|e| e != "gz")) {
        let parts: Result<Vec<&str>, _> = file
            .strip_prefix(dist)?
            .components()
            .map(|part| part.as_os_str().to_str().ok_or("the bundle has a name that isn't UTF-8"))
            .collect();
        let path = parts?.join("/");
        let packed = PathBuf::from(format!("{}.gz", file.display()));
        let packed = match files.contains(&packed) {
            true => format!("Some(include_bytes!({packed:?}))"),
            false => "None".to_owned(),
        };
        writeln!(
            table,
            "    Asset {{ path: \"/{path}\", etag: \"\\\"{hash:016x}\\\"\", plain: include_bytes!({file:?}), packed: {packed} }},",
            hash = fnv1a(&fs::read(file)?),
        )?;
    }
    table.push(']');
    Ok(table)
}

/// FNV-1a, 64 bits: it tells two builds apart, which is all an ETag is for.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
