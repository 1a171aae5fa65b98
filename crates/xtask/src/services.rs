//! Services that tests run against, fetched once into a cache outside the repository and started
//! on free loopback ports.
//!
//! A service must never outlive the process that started it, never write outside its temporary
//! directory and the cache, and never listen beyond loopback.

mod certificates;
mod clock;
mod kafka;

use std::env;
use std::ffi::OsStr;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

pub use clock::with_wrong_clock;
pub use kafka::{Credentials, GUEST, Kafka, SUPER_USER};

/// Where downloads are kept: `$FENGHUO_CACHE`, else `$XDG_CACHE_HOME/fenghuo`, else
/// `~/.cache/fenghuo`.
pub fn cache_dir() -> Result<PathBuf> {
    if let Some(dir) = env::var_os("FENGHUO_CACHE").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir));
    }
    if let Some(dir) = env::var_os("XDG_CACHE_HOME").filter(|dir| !dir.is_empty()) {
        return Ok(PathBuf::from(dir).join("fenghuo"));
    }
    let home = env::var_os("HOME")
        .filter(|dir| !dir.is_empty())
        .context("neither FENGHUO_CACHE, XDG_CACHE_HOME nor HOME is set: set FENGHUO_CACHE to a directory for downloads")?;
    Ok(PathBuf::from(home).join(".cache").join("fenghuo"))
}

/// Makes sure that `program` can be run. Where it cannot, it installs the Debian packages that
/// bring it when the user is root, and otherwise fails with the command that a person should run.
pub fn require(program: &str, packages: &[&str]) -> Result<()> {
    if on_path(program) {
        return Ok(());
    }
    let hint = format!("apt-get install -y {}", packages.join(" "));
    if !is_root() || !on_path("apt-get") {
        bail!("`{program}` was not found: install it, on Debian with `{hint}`");
    }
    eprintln!("xtask: `{program}` was not found, running `{hint}`");
    run(Command::new("apt-get").args(["update", "-q"]))?;
    run(Command::new("apt-get")
        .args(["install", "-q", "-y", "--no-install-recommends"])
        .args(packages)
        .env("DEBIAN_FRONTEND", "noninteractive"))?;
    if !on_path(program) {
        bail!("`{hint}` went through, and `{program}` is still not on the PATH");
    }
    Ok(())
}

/// Ports on loopback that were free a moment ago, all different. Another process can still take
/// one before the service binds it, so whoever uses them tries again with others.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut held = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        // All listeners stay open until the last one is bound, which keeps the ports distinct.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

/// Runs a command to its end and returns what it wrote to its standard output; its whole output
/// is in the error when it fails.
pub(crate) fn run(command: &mut Command) -> Result<String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .with_context(|| format!("running {name}"))?;
    if !output.status.success() {
        bail!(
            "{name} failed ({}):\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn on_path(program: impl AsRef<OsStr>) -> bool {
    let Some(path) = env::var_os("PATH") else {
        return false;
    };
    env::split_paths(&path).any(|dir| dir.join(program.as_ref()).is_file())
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}
