//! The `tidemill` command.

mod commands;
mod logging;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

/// An IoT edge gateway: reads sensors, buffers every reading, forwards it to a
/// broker, shows it to browsers.
#[derive(Parser)]
#[command(name = "tidemill", version, propagate_version = true, max_term_width = 100)]
struct Cli {
    /// What to log, as RUST_LOG has it: info, or warn,forward=debug
    #[arg(long, global = true, value_name = "FILTER")]
    log: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the whole gateway on any machine, with simulated devices and a broker of its own
    Demo(commands::demo::Args),
    /// Run the gateway: what the service does
    Run(Place),
    /// Check the configuration without touching hardware, and show every error
    Check(commands::check::Args),
    /// Show the configuration that runs, or what a reload would change
    Config(commands::config::Args),
    /// Try a configuration, and go back by itself unless the brokers are reached
    Apply(commands::apply::Args),
    /// Try what check cannot: ports, GPIO lines, clock, disk, brokers; with the mend
    Doctor(commands::doctor::Args),
    /// List what is connected to this machine, each with a piece of configuration
    Scan(commands::scan::Args),
    /// List the drivers, or print one's sample configuration
    Drivers(commands::drivers::Args),
    /// Show the running gateway: devices, store, forwarders, ledger
    Status(commands::status::Args),
    /// Follow the live readings in the terminal
    Watch(commands::watch::Args),
    /// Print readings out of the store, also while the gateway runs
    Export(commands::export::Args),
    /// Write an output, such as a switch, through the running gateway
    Set(commands::set::Args),
    /// Set the dashboard's password, or show a link that sets it
    Passwd(commands::passwd::Args),
    /// Make, list and revoke bearer tokens for scripts
    Token(commands::token::Args),
    /// Perform a WebSocket opening handshake and explain it
    Handshake(commands::handshake::Args),
    /// Write down what goes over a device's serial line, for replay
    Record(commands::record::Args),
    /// Put a recording through its device's driver, and print the readings
    Replay(commands::replay::Args),
    /// Gather what somebody who helps needs to know, without secrets
    Report(commands::report::Args),
    /// Print the JSON Schema of the configuration
    Schema,
    /// Write man pages and shell completions into a folder, for packages
    #[command(hide = true)]
    Generate {
        /// The folder
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

/// Where the configuration is.
#[derive(clap::Args, Clone)]
pub(crate) struct Place {
    /// The configuration file
    #[arg(long, value_name = "FILE", default_value = "/etc/tidemill/tidemill.toml")]
    config: PathBuf,
}

impl Place {
    /// The file.
    pub(crate) fn path(&self) -> &Path {
        &self.config
    }
}

/// `sysexits.h`'s EX_CONFIG: the unit tells systemd not to restart after it.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = Cli::parse();
    if let Err(error) = logging::start(cli.log.as_deref()) {
        eprintln!("tidemill: {error:#}");
        return ExitCode::from(2);
    }
    let result = match cli.command {
        Command::Demo(args) => commands::demo::run(args),
        Command::Run(place) => commands::run::run(&place.config),
        Command::Check(args) => commands::check::run(&args),
        Command::Config(args) => commands::config::run(args),
        Command::Apply(args) => commands::apply::run(args),
        Command::Doctor(args) => commands::doctor::run(&args),
        Command::Scan(args) => commands::scan::run(&args),
        Command::Drivers(args) => commands::drivers::run(&args),
        Command::Status(args) => commands::status::run(args),
        Command::Watch(args) => commands::watch::run(args),
        Command::Export(args) => commands::export::run(args),
        Command::Set(args) => commands::set::run(args),
        Command::Passwd(args) => commands::passwd::run(args),
        Command::Token(args) => commands::token::run(args),
        Command::Handshake(args) => commands::handshake::run(&args),
        Command::Record(args) => commands::record::run(&args),
        Command::Replay(args) => commands::replay::run(&args),
        Command::Report(args) => commands::report::run(&args),
        Command::Schema => commands::schema::run(),
        Command::Generate { folder } => commands::generate::run(&folder, Cli::command()),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => match error.downcast_ref::<tidemill::Invalid>() {
            Some(invalid) => {
                eprint!("{invalid}");
                ExitCode::from(EX_CONFIG)
            }
            None => {
                eprintln!("tidemill: {}", commands::told(&error));
                ExitCode::FAILURE
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    /// Lines that a screen shows beside the prompt.
    const LINES_MAX: usize = 40;
    const COLUMNS_MAX: usize = 80;

    fn help(command: &mut clap::Command, path: &str, all: &mut String) {
        let text = command.clone().term_width(COLUMNS_MAX).render_help().to_string();
        let (lines, columns) =
            (text.lines().count(), text.lines().map(|line| line.chars().count()).max());
        assert!(lines <= LINES_MAX, "{path} --help has {lines} lines");
        assert!(columns.unwrap_or(0) <= COLUMNS_MAX, "{path} --help is {columns:?} wide");
        *all += &format!("$ {path} --help\n{text}\n");
        for inner in command.get_subcommands_mut().filter(|inner| !inner.is_hide_set()) {
            if inner.get_name() != "help" {
                let path = format!("{path} {}", inner.get_name());
                help(inner, &path, all);
            }
        }
    }

    /// `UPDATE_EXPECT=1` writes it anew.
    #[test]
    fn the_help_of_every_command_is_golden_and_fits_a_screen() {
        let mut command = Cli::command();
        command.build();
        let mut all = String::new();
        help(&mut command, "tidemill", &mut all);
        expect_test::expect_file!["../../../tests/golden/help.txt"].assert_eq(&all);
    }

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }
}
