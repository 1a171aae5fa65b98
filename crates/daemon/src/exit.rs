//! Exit codes: what a script can rely on.
//!
//! Every command ends with one of these and with no other. Nothing here may print.

use std::process::ExitCode;

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// All was done.
    Done,
    /// Something failed while running; standard error says what.
    Failed,
    /// The command line is wrong. Most of these end in clap, with the same code.
    Usage,
    /// A newer build has taken over: it wrote records that this one does not read.
    Newer,
    /// A config, rules, plan or mapping file is wrong: nothing was started. `EX_CONFIG` of
    /// sysexits.h.
    Config,
}

impl Exit {
    /// The number that the process ends with.
    pub const fn code(self) -> u8 {
        match self {
            Exit::Done => 0,
            Exit::Failed => 1,
            Exit::Usage => 2,
            Exit::Newer => 3,
            Exit::Config => 78,
        }
    }

    /// How a command ends that this error ended.
    pub fn of(error: &anyhow::Error) -> Self {
        let is_config = |cause: &(dyn std::error::Error + 'static)| {
            cause.is::<crate::config::ConfigError>()
                || cause.is::<fenghuo_notify::ConfigError>()
                || cause.is::<fenghuo_kafka::ConfigError>()
                || cause.is::<fenghuo_intake::MappingError>()
        };
        if error.is::<crate::cli::UsageError>() {
            Exit::Usage
        } else if error.is::<crate::run::NewerError>() {
            Exit::Newer
        } else if error.chain().any(is_config) {
            Exit::Config
        } else {
            Exit::Failed
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit.code())
    }
}

/// The codes as `--help` tells them.
pub const HELP: &str = "\
Exit codes:
  0   done
  1   something failed while running; standard error says what
  2   the command line is wrong
  3   run: a newer build has taken over; it wrote records that this one does not read
  78  a config, rules, plan or mapping file is wrong; nothing was started";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_tells_every_code() {
        for exit in [
            Exit::Done,
            Exit::Failed,
            Exit::Usage,
            Exit::Newer,
            Exit::Config,
        ] {
            let line = format!("\n  {:<4}", exit.code());
            assert!(HELP.contains(&line), "{exit:?}");
        }
    }
}
