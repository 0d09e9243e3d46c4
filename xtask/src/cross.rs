//! `cargo xtask cross`: the binaries for ARM, without containers; then each is
//! looked into and run under emulation.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use crate::appliance::Trial;
use crate::package::{self, Arguments, Board, newest};
use crate::setup::{self, Need};
use crate::{root, step};

const USAGE: &str = "\
usage: cargo xtask cross [TRIPLE…] [--no-run] [--record] [--package]

Cross-compiles the release binary for each (by default all three that there are
packages for), checks with readelf what it needs, and runs it under qemu's user
emulation. --package makes the .deb of each, --record keeps what it finds in
docs/test-runs/cross.md. The first build of a target takes some six minutes.";

/// For building.
const TO_CROSS: &[Need] = &[
    setup::of("python3", "python3-venv", "fetches zig, the linker"),
    setup::of("readelf", "binutils", "looks into the binary"),
];

/// For running.
const TO_RUN: &[Need] =
    &[setup::of("qemu-aarch64-static", "qemu-user-static", "runs ARM programs")];

/// The C libraries that they ask for, and who brings them.
const LIBRARIES: &[(&str, &str)] = &[
    ("/usr/aarch64-linux-gnu/lib/libc.so.6", "libc6-arm64-cross"),
    ("/usr/arm-linux-gnueabihf/lib/libc.so.6", "libc6-armhf-cross"),
];

/// The oldest C library that the binaries may need: Debian 11 has 2.31.
const GLIBC_MAX: (u32, u32) = (2, 31);

/// Bytes that the binary may take on a card.
const SIZE_MAX: u64 = 10_000_000;

/// How long the demonstration runs under emulation.
const RUN: Duration = Duration::from_secs(10);

/// What is built, and how it is run here.
struct Target {
    triple: &'static str,
    emulator: &'static str,
    processor: &'static str,
    /// Where the C library for it lies.
    library: &'static str,
}

const TARGETS: &[Target] = &[
    Target {
        triple: "aarch64-unknown-linux-gnu",
        emulator: "qemu-aarch64-static",
        processor: "cortex-a53",
        library: "/usr/aarch64-linux-gnu",
    },
    Target {
        triple: "armv7-unknown-linux-gnueabihf",
        emulator: "qemu-arm-static",
        processor: "cortex-a7",
        library: "/usr/arm-linux-gnueabihf",
    },
    // The Pi Zero's and the Pi 1's processor.
    Target {
        triple: "arm-unknown-linux-musleabihf",
        emulator: "qemu-arm-static",
        processor: "arm1176",
        library: "/nowhere",
    },
];

/// Builds, checks and runs.
pub(crate) fn command(arguments: &[String]) -> Result<()> {
    let has = |word: &str| arguments.iter().any(|argument| argument == word);
    if has("--help") {
        println!("{USAGE}");
        return Ok(());
    }
    let named: Vec<&String> =
        arguments.iter().filter(|argument| !argument.starts_with("--")).collect();
    for name in &named {
        Board::of(name)?;
    }
    let chosen = TARGETS
        .iter()
        .filter(|target| named.is_empty() || named.iter().any(|name| *name == target.triple));
    setup::need(setup::TO_BUILD)?;
    setup::need(TO_CROSS)?;
    if !has("--no-run") {
        setup::need(TO_RUN)?;
        for library in LIBRARIES.iter().filter(|library| !Path::new(library.0).exists()) {
            setup::install_packages(&[library.1])?;
        }
    }
    let mut trial = Trial::new("The binaries for ARM");
    for target in chosen {
        let board = Board::of(target.triple)?;
        build(target)?;
        let binary = board.built();
        trial.check(&format!("{}: size", target.triple), || size(&binary));
        trial.check(&format!("{}: libraries", target.triple), || libraries(&binary));
        if target.triple.starts_with("arm-") {
            trial.check(&format!("{}: ARMv6", target.triple), || armv6(&binary));
        }
        if !has("--no-run") {
            trial.check(&format!("{}: runs", target.triple), || demo(target, &binary));
        }
        if has("--package") {
            trial.check(&format!("{}: package", target.triple), || {
                let deb = package::build(&Arguments::of(board))?;
                package::lint(&deb)?;
                Ok(format!(
                    "{}, lintian without errors",
                    deb.file_name().unwrap_or_default().to_string_lossy()
                ))
            });
        }
    }
    let page = root().join("docs/test-runs/cross.md");
    trial.end(has("--record").then_some(page.as_path()))
}

/// A folder of its own: another compiler builds there.
fn build(target: &Target) -> Result<()> {
    let script = root().join("xtask/scripts/cross.sh");
    let mut build = Command::new(script);
    build.args([
        target.triple,
        "--release",
        "--locked",
        "--package",
        "tidemill",
        "--features",
        "rpi",
    ]);
    build.current_dir(root()).env("CARGO_TARGET_DIR", step::target().join("cross"));
    step::run(target.triple, build)
}

fn size(binary: &Path) -> Result<String> {
    let bytes = fs::metadata(binary)?.len();
    ensure!(bytes < SIZE_MAX, "{bytes} bytes");
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let megabytes = bytes as f64 / 1e6;
    Ok(format!("{megabytes:.1} MB, stripped"))
}

fn readelf(binary: &Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new("readelf").args(arguments).arg(binary).output()?;
    ensure!(output.status.success(), "readelf: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Which libraries it asks for, and how new they must be.
fn libraries(binary: &Path) -> Result<String> {
    let told = readelf(binary, &["-d", "-V", "-W"])?;
    if !told.contains("(NEEDED)") {
        return Ok("none: static".to_owned());
    }
    let needed: Vec<&str> = told
        .lines()
        .filter(|line| line.contains("(NEEDED)"))
        .filter_map(|line| line.split('[').nth(1)?.split(']').next())
        .collect();
    let libc = newest(&told, "GLIBC_").context("no version of the C library")?;
    ensure!(libc <= GLIBC_MAX, "it needs glibc {}.{}", libc.0, libc.1);
    Ok(format!("glibc {}.{} or newer ({})", libc.0, libc.1, needed.join(", ")))
}

/// That no instruction in it is too new for a Pi Zero: what the linker notes of
/// all its parts together.
fn armv6(binary: &Path) -> Result<String> {
    let told = readelf(binary, &["-A"])?;
    let tag = |name: &str| {
        let line = told.lines().find(|line| line.contains(name))?;
        Some(line.split(':').nth(1)?.trim().to_owned())
    };
    let architecture = tag("Tag_CPU_arch").context("no Tag_CPU_arch")?;
    let floats = tag("Tag_FP_arch").unwrap_or_default();
    ensure!(architecture.starts_with("v6"), "its architecture is {architecture}");
    ensure!(floats == "VFPv2", "its floating point is {floats}");
    ensure!(tag("Tag_Advanced_SIMD_arch").is_none(), "it needs NEON");
    Ok(format!("{architecture}, {floats}, no NEON"))
}

/// The demonstration, killed when it goes.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs the whole gateway in it: devices, store, broker, page.
fn demo(target: &Target, binary: &Path) -> Result<String> {
    let folder = step::target().join("cross/demo");
    drop(fs::remove_dir_all(&folder));
    let mut command = Command::new(target.emulator);
    command.args(["-cpu", target.processor, "-L", target.library]).arg(binary);
    command.args(["demo", "--listen", "127.0.0.1:0", "--data"]).arg(&folder);
    command.env("NO_COLOR", "1").stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let began = Instant::now();
    let mut demo = Demo(command.spawn().with_context(|| format!("run {}", target.emulator))?);
    let mut told = BufReader::new(demo.0.stdout.take().context("stdout")?).lines();
    let url = loop {
        match told.next() {
            Some(line) => {
                let line = line?;
                let words = line.split_whitespace().find(|word| word.starts_with("http://"));
                if let Some(url) = words {
                    break url.trim_end_matches('/').to_owned();
                }
            }
            None => {
                let mut why = String::new();
                if let Some(mut stderr) = demo.0.stderr.take() {
                    stderr.read_to_string(&mut why)?;
                }
                bail!("it ended: {why}");
            }
        }
    };
    let started = began.elapsed();
    #[expect(clippy::disallowed_methods, reason = "a chore may wait")]
    std::thread::sleep(RUN);
    let address = url.trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(&address)?;
    write!(stream, "GET /api/v1/status HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let body = answer.split_once("\r\n\r\n").context("no answer")?.1;
    let status: serde_json::Value = serde_json::from_str(body)?;
    let stored = status["ledger"]["stored"].as_u64().unwrap_or(0);
    let forwarder = &status["forwarders"][0];
    let acknowledged = forwarder["acknowledged"].as_u64().unwrap_or(0);
    ensure!(stored > 0 && acknowledged > 0, "{stored} stored, {acknowledged} acknowledged");
    Ok(format!(
        "on {} after {:.1} s; in ten seconds {stored} readings stored, {acknowledged} acknowledged by its broker",
        target.processor,
        started.as_secs_f64()
    ))
}
