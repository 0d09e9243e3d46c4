//! The project's chores, each one command: `cargo xtask demo`, `test`, `bench`.
//!
//! Each installs by apt what is missing on a bare Debian with Rust, so that the
//! README can name two commands and CI can call the same ones.

mod appliance;
mod check;
mod cross;
mod licence;
mod outside;
mod package;
mod setup;
mod step;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;

const USAGE: &str = "\
usage: cargo xtask COMMAND [ARGUMENTS]

  demo [ARGUMENTS]   the whole gateway on this machine, optimised: simulated
                     devices, a small broker, the page (`tidemill demo --help`)
  test [ARGUMENTS]   every check and every test, as CI runs them; arguments go
                     to the test runner (cargo nextest when it is there)
  bench [ARGUMENTS]  the figures of the README, on this machine
                     (`cargo xtask bench --help`)
  backlog            ten million readings that wait for their broker: start,
                     memory, drain (`cargo xtask backlog --help`)
  cuts [N]           states that power cuts leave, from the calls of the real
                     writer, 100,000
  damages [N]        a store damaged in so many random ways, 500
  kills [N]          the gateway killed so often under load, 1,000 times
  simulate [N]       so many seeds of the simulation, 100,000, on all processors
  conformance        the cases of the Autobahn test suite against the feed's code
  attack             requests made of the API's description, of every kind
  package            the .deb (`cargo xtask package --help`)
  cross [TARGETS]    the binaries for ARM, checked and run under emulation
  container          the .deb in a Debian with systemd, at native speed
  vm                 the same and GPIO, serial, power cuts, in a virtual machine
  setup              only installs what the commands above need

What is missing is installed with apt; that needs root or sudo.";

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let command = arguments.next().unwrap_or_default();
    let rest: Vec<String> = arguments.collect();
    let done = match command.as_str() {
        "demo" => demo(&rest),
        "test" => check::all(&rest),
        "backlog" => bench(&[vec!["backlog".to_owned()], rest].concat()),
        "bench" => bench(&rest),
        "attack" => outside::attack(&rest),
        "conformance" => outside::conformance(&rest),
        "container" => appliance::container(&rest),
        "cross" => cross::command(&rest),
        "vm" => appliance::vm(&rest),
        "cuts" => store(&rest, "crash::", ("TIDEMILL_STATES", "100000")),
        "damages" => store(&rest, "damage::", ("TIDEMILL_DAMAGES", "500")),
        "kills" => kills(&rest),
        "simulate" => simulate(&rest),
        "package" => package::command(&rest),
        "setup" => setup::need(setup::EVERYTHING),
        "help" | "--help" | "-h" => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        "" => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
        unknown => {
            eprintln!("xtask: no command {unknown:?}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn demo(arguments: &[String]) -> Result<()> {
    setup::need(setup::TO_BUILD)?;
    let mut demo = step::cargo(&["run", "--release", "--locked", "--package", "tidemill", "--"]);
    demo.arg("demo").args(arguments);
    step::become_it(demo)
}

fn bench(arguments: &[String]) -> Result<()> {
    if !arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
        setup::need(setup::TO_BUILD)?;
        setup::need(setup::TO_BENCH)?;
    }
    let build = ["build", "--release", "--locked", "--package", "tidemill", "--package", "bench"];
    step::run("build", step::cargo(&build))?;
    let release = step::target().join("release");
    let mut bench = std::process::Command::new(release.join("bench"));
    bench.args(arguments).env("TIDEMILL_BIN", release.join("tidemill"));
    step::become_it(bench)
}

fn kills(arguments: &[String]) -> Result<()> {
    setup::need(setup::TO_BUILD)?;
    setup::need(setup::TO_TEST)?;
    let kills = arguments.first().map_or("1000", String::as_str);
    // Not by nextest, which ends what takes longer than three minutes.
    let mut test = step::cargo(&["test", "--locked", "--package", "tidemill", "--test", "gateway"]);
    test.arg("kills::").env("TIDEMILL_KILLS", kills);
    step::become_it(test)
}

/// Some of the store's promises, tried so often.
fn store(arguments: &[String], which: &str, (name, often): (&str, &str)) -> Result<()> {
    setup::need(setup::TO_BUILD)?;
    setup::need(setup::TO_TEST)?;
    let often = arguments.first().map_or(often, String::as_str);
    let mut test = step::cargo(&["test", "--locked", "--package", "store", "--test", "promises"]);
    test.args([which, "--", "--nocapture"]).env(name, often);
    step::become_it(test)
}

/// Each time other seeds than CI's, unless `TIDEMILL_FIRST_SEED` says where to
/// begin.
fn simulate(arguments: &[String]) -> Result<()> {
    setup::need(setup::TO_BUILD)?;
    let seeds = arguments.first().map_or("100000", String::as_str);
    let mut test = step::cargo(&["test", "--locked", "--package", "tidemill", "--lib"]);
    test.args(["simulation::a_thousand_lives", "--", "--nocapture"]).env("TIDEMILL_SEEDS", seeds);
    if std::env::var_os("TIDEMILL_FIRST_SEED").is_none() {
        let hasher = std::hash::RandomState::new();
        let first = std::hash::BuildHasher::hash_one(&hasher, 0_u8) >> 16;
        test.env("TIDEMILL_FIRST_SEED", first.to_string());
    }
    step::become_it(test)
}

/// The folder of the workspace: cargo says where this crate is.
fn root() -> PathBuf {
    let here = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    here.and_then(|crate_dir| Some(crate_dir.parent()?.to_owned())).unwrap_or_else(|| ".".into())
}
