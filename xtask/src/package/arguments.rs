use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::{root, step};

/// What a package is built for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Board {
    /// What cargo calls it.
    pub(crate) triple: &'static str,
    /// What dpkg calls it.
    pub(crate) architecture: &'static str,
    /// What stands in the file's name: ARMv6 is `armhf` to dpkg as well.
    pub(crate) suffix: &'static str,
    /// What `preinst` refuses: `any`, or `armv7`.
    pub(crate) variant: &'static str,
}

/// All of them.
pub(crate) const BOARDS: &[Board] = &[
    Board {
        triple: "x86_64-unknown-linux-gnu",
        architecture: "amd64",
        suffix: "amd64",
        variant: "any",
    },
    Board {
        triple: "aarch64-unknown-linux-gnu",
        architecture: "arm64",
        suffix: "arm64",
        variant: "any",
    },
    Board {
        triple: "armv7-unknown-linux-gnueabihf",
        architecture: "armhf",
        suffix: "armhf",
        variant: "armv7",
    },
    Board {
        triple: "arm-unknown-linux-musleabihf",
        architecture: "armhf",
        suffix: "armv6",
        variant: "any",
    },
];

impl Board {
    /// The one of this name.
    ///
    /// # Errors
    /// When there is no package for it.
    pub(crate) fn of(triple: &str) -> Result<Board> {
        let board = BOARDS.iter().find(|board| board.triple == triple);
        let known = || BOARDS.iter().map(|board| board.triple).collect::<Vec<_>>().join(", ");
        board.copied().with_context(|| format!("no package for {triple}; there is: {}", known()))
    }

    /// The one that dpkg calls so.
    ///
    /// # Errors
    /// When there is no package for it.
    pub(crate) fn named(architecture: &str) -> Result<Board> {
        let board = BOARDS.iter().find(|board| board.architecture == architecture);
        board.copied().with_context(|| format!("no package for {architecture}"))
    }

    /// Whether this machine can build and run it by itself.
    pub(crate) fn native(self) -> bool {
        self.triple.starts_with(std::env::consts::ARCH) && self.triple.ends_with("-gnu")
    }

    /// Where `cargo xtask cross` leaves the binary.
    pub(crate) fn built(self) -> PathBuf {
        step::target().join("cross").join(self.triple).join("release/tidemill")
    }
}

/// What the command is told.
#[derive(Clone, Debug)]
pub(crate) struct Arguments {
    pub(crate) board: Board,
    pub(crate) binary: Option<PathBuf>,
    pub(crate) lintian: bool,
    /// Hardly compressed.
    pub(crate) quick: bool,
    version: Option<String>,
}

impl Arguments {
    /// For the binary of this machine.
    ///
    /// # Errors
    /// When there is no package for this kind of machine.
    pub(crate) fn native() -> Result<Arguments> {
        let board = BOARDS.iter().copied().find(|board| board.native());
        let board = board.context("no package for this kind of machine: name a --target")?;
        Ok(Arguments { board, binary: None, lintian: true, quick: false, version: None })
    }

    /// For a board whose binary is there.
    pub(crate) fn of(board: Board) -> Arguments {
        Arguments { board, binary: None, lintian: true, quick: false, version: None }
    }

    pub(crate) fn parse(arguments: &[String]) -> Result<Arguments> {
        let mut native = None;
        let mut board = None;
        let (mut binary, mut version, mut lintian) = (None, None, true);
        let mut rest = arguments.iter();
        while let Some(argument) = rest.next() {
            let mut value = || rest.next().with_context(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--target" => board = Some(Board::of(value()?)?),
                "--binary" => binary = Some(PathBuf::from(value()?)),
                "--version" => version = Some(value()?.clone()),
                "--no-lintian" => lintian = false,
                unknown => bail!("package: no argument {unknown:?}"),
            }
        }
        if board.is_none() {
            native = Some(Arguments::native()?.board);
        }
        let board = board.or(native).context("a board")?;
        Ok(Arguments { board, binary, lintian, quick: false, version })
    }

    /// Another version than the workspace's.
    pub(crate) fn versioned(mut self, version: &str) -> Arguments {
        self.version = Some(version.to_owned());
        self
    }

    /// For a trial, which doesn't wait for the best compression.
    pub(crate) fn quickly(mut self) -> Arguments {
        self.quick = true;
        self
    }

    /// With this binary.
    pub(crate) fn of_binary(mut self, binary: Option<PathBuf>) -> Arguments {
        self.binary = binary;
        self
    }

    /// As dpkg has it: upstream version, hyphen, revision.
    pub(crate) fn version(&self) -> Result<String> {
        if let Some(version) = &self.version {
            return Ok(version.clone());
        }
        let manifest: toml::Table =
            std::fs::read_to_string(root().join("Cargo.toml"))?.parse().context("Cargo.toml")?;
        let version = manifest["workspace"]["package"]["version"].as_str();
        Ok(format!("{}-1", version.context("Cargo.toml has no version")?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_in_any_order() {
        let words = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
        let text = "--no-lintian --target arm-unknown-linux-musleabihf --version 2.0-1";
        let arguments = Arguments::parse(&words(text)).unwrap();
        assert_eq!(arguments.board.suffix, "armv6");
        assert_eq!(arguments.version().unwrap(), "2.0-1");
        assert!(!arguments.lintian);
        assert!(Arguments::parse(&words("--target mips")).is_err());
        assert!(Arguments::parse(&words("--target")).is_err());
    }
}
