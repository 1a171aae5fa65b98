//! `cargo xtask test`: the one test command. It provides what the tests need, then runs every
//! check and every test, and says how long each step took.
//!
//! It must never skip a step in silence: what is not run is named.

use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::services::{Kafka, run as output_of};
use crate::{debian, deploy, fuzz, simulate, tidy};

/// Packages whose tests, but for those beside the code, start services.
const WITH_SERVICES: [&str; 3] = ["fenghuo-kafka", "fenghuo-tests", "xtask"];

/// What to run.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Arguments {
    /// Leave out the steps that need Kafka, Prometheus, Alertmanager or Chromium.
    #[arg(long)]
    fast: bool,
}

/// Steps done so far, for the table at the end.
struct Steps<'a> {
    root: &'a Path,
    done: Vec<(String, Duration)>,
}

impl Steps<'_> {
    /// Runs one step under a heading.
    fn step(&mut self, name: &str, work: impl FnOnce() -> Result<()>) -> Result<()> {
        println!("\n== {name}");
        let start = Instant::now();
        work().with_context(|| format!("step `{name}` failed"))?;
        let took = start.elapsed();
        println!("== {name}: {:.1} s", took.as_secs_f64());
        self.done.push((name.to_owned(), took));
        Ok(())
    }

    /// Tells what was done.
    fn finish(self) -> Result<()> {
        println!("\nAll passed:");
        for (name, took) in &self.done {
            println!("{:>8.1} s  {name}", took.as_secs_f64());
        }
        Ok(())
    }

    /// Runs `cargo` with these arguments as a step of their name.
    fn cargo(&mut self, arguments: &[&str]) -> Result<()> {
        self.cargo_with(arguments, "")
    }

    /// The same with flags for rustdoc.
    fn cargo_with(&mut self, arguments: &[&str], rustdoc_flags: &str) -> Result<()> {
        let root = self.root;
        self.step(&format!("cargo {}", arguments.join(" ")), || {
            let mut command = Command::new("cargo");
            command.args(arguments).current_dir(root);
            if !rustdoc_flags.is_empty() {
                command.env("RUSTDOCFLAGS", rustdoc_flags);
            }
            let status = command.status().context("starting cargo")?;
            if !status.success() {
                bail!("cargo ended with {status}");
            }
            Ok(())
        })
    }
}

/// What needs no service.
fn without_services(steps: &mut Steps<'_>, root: &Path, fast: bool) -> Result<()> {
    if !fast {
        steps.step("fuzz, for a fixed count", || {
            fuzz::run(root, &fuzz::Arguments::default())
        })?;
    }
    steps.step("simulate", || simulate::fixed_and_fresh(root))?;
    steps.cargo_with(&["doc", "--workspace", "--no-deps"], "-D warnings")
}

/// Runs everything; the first step that fails ends the run.
pub fn run(root: &Path, arguments: &Arguments) -> Result<()> {
    let mut steps = Steps {
        root,
        done: Vec::new(),
    };
    if arguments.fast {
        println!(
            "--fast: without the service tests of {}, without promtool and amtool, and without fuzzing",
            WITH_SERVICES.join(", ")
        );
    } else {
        // Before anything that takes minutes, so that a missing program is known at once.
        steps.step("provide programs", debian::provide_all)?;
        steps.step("start Kafka once", || Kafka::start().map(drop))?;
    }
    steps.cargo(&["fmt", "--all", "--check"])?;
    steps.step("tidy", || tidy::run(root))?;
    steps.cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--",
        "-D",
        "warnings",
    ])?;
    steps.step("check deploy/fenghuo.service", || check_unit(root))?;
    if arguments.fast {
        let mut others = vec!["test", "--workspace"];
        let mut beside = vec!["test", "--lib"];
        for package in WITH_SERVICES {
            others.extend(["--exclude", package]);
            beside.extend(["--package", package]);
        }
        steps.cargo(&others)?;
        steps.cargo(&beside)?;
    } else {
        steps.step("check deploy/prometheus and deploy/alertmanager", || {
            check_monitoring(root)
        })?;
        // The end-to-end tests run the binary that people run.
        steps.cargo(&["build", "--release", "--package", "fenghuo-daemon"])?;
        steps.cargo(&["test", "--workspace"])?;
        if std::env::var_os("FENGHUO_UCI").is_some() {
            let uci = ["test", "--package", "fenghuo-tests"];
            let of = ["--test", "orders", "--test", "exports", "--", "--ignored"];
            steps.cargo(&[&uci[..], &of].concat())?;
        }
    }
    without_services(&mut steps, root, arguments.fast)?;
    steps.finish()
}

/// Prometheus's and Alertmanager's own tools accept our files, and the rules pass their tests.
fn check_monitoring(root: &Path) -> Result<()> {
    let prometheus = root.join("deploy/prometheus");
    let promtool = debian::promtool()?;
    let tool = |program: &Path, arguments: &[&dyn AsRef<OsStr>]| {
        let output = output_of(Command::new(program).args(arguments))?;
        print!("{output}");
        Ok::<(), anyhow::Error>(())
    };
    // The secret that the config names exists in the container only, so its syntax is checked.
    let config = prometheus.join("prometheus.yml");
    tool(&promtool, &[&"check", &"config", &"--syntax-only", &config])?;
    tool(&promtool, &[&"check", &"rules", &root.join(deploy::RULES)])?;
    tool(
        &promtool,
        &[&"test", &"rules", &prometheus.join("rules_test.yml")],
    )?;
    let config = root.join("deploy/alertmanager/alertmanager.yml");
    tool(&debian::amtool()?, &[&"check-config", &config])
}

/// systemd accepts the unit, where there is a systemd to ask.
fn check_unit(root: &Path) -> Result<()> {
    let Ok(version) = output_of(Command::new("systemd-analyze").arg("--version")) else {
        println!("left out: systemd-analyze is not here");
        return Ok(());
    };
    println!("{}", version.lines().next().unwrap_or_default());
    // The unit names the installed binary, which a checkout has not; any program stands in for it.
    let unit = fs::read_to_string(root.join("deploy/fenghuo.service"))?;
    let directory = tempfile::tempdir()?;
    let copy = directory.path().join("fenghuo.service");
    fs::write(&copy, unit.replace("/usr/bin/fenghuo", "/bin/true"))?;
    let output = Command::new("systemd-analyze")
        .args(["verify", "--man=no"])
        .arg(&copy)
        .output()?;
    // It warns about unknown keys and ends with success: silence alone is a pass.
    if !output.status.success() || !output.stderr.is_empty() {
        bail!(
            "systemd-analyze verify: {}",
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
