//! Configs that harm who checks them, and secrets that are none.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde_json::Value;

use super::probe::memory_mib;
use super::site::Site;
use super::{Attack, Finding, Settings};
use crate::installation::Installation;

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "config-signs",
        done: "a config's keys and values hold terminal signs and line breaks",
        expected: "check ends with 78 or 0, and writes none of them to the terminal",
        on_kafka: false,
        in_short: true,
        play: config_signs,
    },
    Attack {
        name: "large-config",
        done: "check reads a config of 11 MB, of several shapes",
        expected: "it ends with 78 within 10 s and 256 MiB",
        on_kafka: false,
        in_short: true,
        play: large_config,
    },
    Attack {
        name: "sample-salt",
        done: "check reads the mappings that init wrote, with their salt set to \"change-me\"",
        expected: "it ends with 78 and names the salt",
        on_kafka: false,
        in_short: true,
        play: sample_salt,
    },
    Attack {
        name: "greeting-token",
        done: "a folder whose senders need a token is started, and the printed command is run",
        expected: "the command sends the token, which is not printed, and its events are accepted",
        on_kafka: false,
        in_short: true,
        play: greeting_token,
    },
];

const MEMORY_MIB: u64 = 256;
const ENDS_WITHIN: Duration = Duration::from_secs(10);
const WRONG: Option<i32> = Some(78);

/// A config, what `check` says of it, its code, and what it took.
struct Checked {
    code: Option<i32>,
    told: Vec<u8>,
    most_mib: u64,
    took: Duration,
}

fn check(config: &[u8]) -> Result<Checked> {
    let installation = Installation::new()?;
    installation.write("fenghuo.toml", config)?;
    let told = installation.path("told");
    let file = File::create(&told)?;
    let began = Instant::now();
    let mut child = installation
        .fenghuo(["check", "--config", "fenghuo.toml"])
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .context("starting fenghuo")?;
    let mut most_mib = 0;
    let code = loop {
        if let Some(status) = child.try_wait()? {
            break status.code();
        }
        // Between two looks it may end, which the next one sees.
        if let Ok((most, _)) = memory_mib(child.id()) {
            most_mib = most_mib.max(most);
        }
        if began.elapsed() > ENDS_WITHIN * 2 || most_mib > 4 * 1_024 {
            child.kill()?;
            child.wait()?;
            break None;
        }
    };
    Ok(Checked {
        code,
        told: fs::read(&told)?,
        most_mib,
        took: began.elapsed(),
    })
}

fn config_signs(_: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let configs: [&[u8]; 7] = [
        b"\"a\\u001b[31mred\\u0007\" = 1\n",
        b"[\"shop\\u001b]0;title\\u0007\"]\nid = 1\n",
        b"log.kind = \"x\\u001b[2J\"\n",
        b"shop.id = \"a\\nINFO all is well\\u001b[0m\"\n",
        b"\"line\\nbreak\" = 1\n",
        b"\"turn\\u202earound\" = 1\n",
        b"shop.currency = \"\x1b[31m\"\n",
    ];
    for config in configs {
        let checked = check(config)?;
        let shown = String::from_utf8_lossy(config).escape_debug().to_string();
        // A name that is shown escaped harms nobody.
        finding.expect(
            checked.code == WRONG || checked.code == Some(0),
            format!("{shown}: check ended with {:?}", checked.code),
        );
        let text = String::from_utf8_lossy(&checked.told);
        let is_sign = |sign: char| (sign.is_control() && sign != '\n') || sign == '\u{202e}';
        let is_forged = text
            .lines()
            .any(|line| line.starts_with("INFO") || line.starts_with("break"));
        finding.expect(
            !text.contains(is_sign) && !is_forged,
            format!(
                "{shown}: the terminal was told {:?}",
                text.escape_debug().to_string()
            ),
        );
    }
    finding.measure(format!("{} configs", configs.len()));
    Ok(finding)
}

fn large_config(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    const BYTES: usize = 11 << 20;
    let keys: String = (0..BYTES / 16)
        .map(|number| format!("a{number:08} = 1\n\n\n"))
        .collect();
    let tables = "[[channel]]\nname = \"a\"\n".repeat(BYTES / 23);
    let values = format!("rules.files = [{}]\n", "\"a\",".repeat(BYTES / 4));
    let nested = format!("a = {}1{}\n", "[".repeat(100_000), "]".repeat(100_000));
    let shapes = [
        ("keys", keys),
        ("tables", tables),
        ("values", values),
        ("nested", nested),
    ];
    for (name, text) in &shapes[..settings.pick(2, 4)] {
        let checked = check(text.as_bytes())?;
        finding.measure(format!(
            "{name}: {:?} after {:.1} s, {} MiB, {} bytes of output",
            checked.code,
            checked.took.as_secs_f64(),
            checked.most_mib,
            checked.told.len()
        ));
        finding.expect(
            checked.code == WRONG,
            format!("{name}: check ended with {:?}", checked.code),
        );
        finding.expect(
            checked.took <= ENDS_WITHIN,
            format!("{name}: took {:.1} s", checked.took.as_secs_f64()),
        );
        finding.expect(
            checked.most_mib <= MEMORY_MIB,
            format!("{name}: took {} MiB", checked.most_mib),
        );
        finding.expect(
            checked.told.len() < 1 << 20,
            format!("{name}: wrote {} bytes to the terminal", checked.told.len()),
        );
    }
    Ok(finding)
}

fn sample_salt(_: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let installation = Installation::new()?;
    installation.done(["init", "site"])?;
    fs::create_dir(installation.path("site/exports"))?;
    // As somebody would who takes the comment for the setting.
    let mapping = installation.path("site/mappings/order-list.toml");
    let text = fs::read_to_string(&mapping)?;
    let salted: Vec<&str> = text
        .lines()
        .map(|line| match line.contains("salt = ") {
            true => "salt = \"change-me\"",
            false => line,
        })
        .collect();
    fs::write(&mapping, salted.join("\n"))?;
    let config = "log.kind = \"embedded\"\nintake.watch = \"exports\"\nintake.mappings = [\"mappings/order-list.toml\"]\n";
    fs::write(installation.path("site/fenghuo.toml"), config)?;
    let output = installation
        .fenghuo(["check", "--config", "site/fenghuo.toml"])
        .output()?;
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    finding.measure(format!("check ended with {:?}", output.status.code()));
    finding.expect(
        output.status.code() == WRONG && told.contains("salt"),
        format!("check ended with {:?}: {told}", output.status.code()),
    );
    Ok(finding)
}

fn greeting_token(settings: &Settings) -> Result<Finding> {
    const TOKEN: &str = "sender-5Hq2vWz8LkPtYb3N";
    let mut finding = Finding::default();
    let mut site = Site::new(settings, "greeting-token")?;
    site.installation.write("sender", TOKEN)?;
    site.forget_shop();
    site.configure("intake.token_file = \"sender\"\n", &site.pager_alone())?;
    site.start()?;
    let end = "\nEND\n";
    let log = site.daemon()?.until("the greeting", |process| {
        let log = process.log();
        log.contains(end).then_some(log)
    })?;
    let from = log.find("curl ").context("no command in the greeting")?;
    let to = log.find(end).context("no end of the command")? + end.len();
    finding.expect(!log.contains(TOKEN), "the token is printed");
    let done = Command::new("sh")
        .args(["-c", &log[from..to]])
        .current_dir(site.installation.path(""))
        .output()?;
    let told: Value = serde_json::from_slice(&done.stdout).unwrap_or_default();
    finding.measure(format!("the command was answered {told}"));
    finding.expect(
        told["accepted"] == 2,
        format!(
            "the printed command was answered {}",
            String::from_utf8_lossy(&done.stdout)
        ),
    );
    Ok(finding)
}
