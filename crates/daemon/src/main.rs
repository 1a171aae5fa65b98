//! The `fenghuo` binary: reads the command line, sets up the log lines, and does what was asked.

mod check;
mod cli;
mod clock;
mod conditions;
mod config;
mod control;
mod dead_letter;
mod deliver;
mod demo;
mod exit;
mod folder;
mod http;
mod identity;
mod init;
mod intake;
mod limits;
mod load;
mod log_lines;
mod measured;
mod refusals;
mod replay;
mod run;
mod scenario;
mod sender;
mod sets;
mod shop;
mod signals;
mod topics;
mod watch;
mod watchdog;
mod welcome;
mod worker;

use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command};
use crate::exit::Exit;

/// A stage allocates for every event, and frees on another thread: with the system's allocator that
/// was a third of what an event costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let _guard = match log_lines::start(&cli) {
        Ok(guard) => guard,
        Err(problem) => {
            log_lines::last_words(format!("fenghuo: --log: {problem}"));
            return Exit::Failed.into();
        }
    };
    let done = match &cli.command {
        Command::Demo(args) => demo::run(args),
        Command::Run(args) => run::run(args),
        Command::Init(args) => init::run(args),
        Command::Check(args) => check::run(args),
        Command::Load(args) => load::run(args),
        Command::Replay(args) => replay::run(args),
        Command::Test(args) => scenario::run(args),
        Command::Signals(args) => signals::run(args),
        Command::DeadLetter(args) => dead_letter::run(args),
        Command::Log(args) => folder::run(args),
        Command::Shop(args) => shop::run(args),
        Command::Set(args) => sets::run(args),
    };
    match done {
        Ok(exit) => exit.into(),
        Err(error) => {
            log_lines::last_words(format!("fenghuo: {}", for_terminal(&format!("{error:#}"))));
            Exit::of(&error).into()
        }
    }
}

/// Lines with what a terminal would obey written out: files, keys and values are named in them, and
/// come from anyone.
fn for_terminal(text: &str) -> String {
    let lines = text.split('\n');
    let lines: Vec<String> = lines
        .map(|line| fenghuo_signal::shown(line, usize::MAX))
        .collect();
    lines.join("\n")
}
