//! Words that outsiders choose: secrets that receivers say back, and signs that turn a line around.

use std::time::Duration;

use anyhow::Result;
use serde_json::Value;
use xtask::wait;

use super::receiver::{Mood, Receiver};
use super::site::{Site, channel, route};
use super::{Attack, Finding, Settings};

pub(super) const ATTACKS: &[Attack] = &[
    Attack {
        name: "echoed-secret",
        done: "a receiver whose address is the secret answers with the path that it was asked for",
        expected: "no part of the secret in the log at debug level, in the API, the metrics or /-/ready",
        on_kafka: true,
        in_short: true,
        play: echoed_secret,
    },
    Attack {
        name: "hidden-signs",
        done: "skus with bidi overrides, zero-width, control and terminal signs are sold below their floors",
        expected: "each is paged, and no such sign is in a page's title, text or summary, nor in a line of the terminal",
        on_kafka: false,
        in_short: true,
        play: hidden_signs,
    },
];

const SECRET: &str = "xQ7vN2kLmZr9TfWb4HsY";

fn echoed_secret(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let echo = Receiver::start(Mood::Echo)?;
    let mut site = Site::new(settings, "echoed-secret")?;
    let address = format!("{}/services/T0/B0/{SECRET}?key=k{SECRET}", echo.url());
    site.installation.write("address", &address)?;
    let hook = channel("by-file", "u", "").replace("url = \"u\"", "url_file = \"address\"");
    let slack = "[[channel]]\nname = \"chat\"\ntype = \"slack\"\nurl_file = \"address\"\n";
    let tables = format!(
        "{hook}{slack}{}{}{}",
        route("entity = { sku = \"hook-*\" }", "by-file"),
        route("entity = { sku = \"chat-*\" }", "chat"),
        site.pager_alone()
    );
    site.configure("", &tables)?;
    site.start_with(&["--log", "debug", "run", "--config", "fenghuo.toml"])?;
    site.daemon()?.until("the daemon to be ready", |process| {
        (process.get("/-/ready").ok()?.status == 200).then_some(())
    })?;
    site.sell_below("hook-1")?;
    site.sell_below("chat-1")?;
    let asked = wait::until("both to be asked", Duration::from_secs(10), || {
        (echo.count() >= 2).then_some(())
    });
    finding.expect(asked.is_ok(), "the receiver was not asked by both channels");
    // The outcome is written after the answer.
    let ended = wait::until("outcomes", Duration::from_secs(10), || {
        let body = site.daemon().ok()?.get("/api/v1/deliveries").ok()?.body;
        let all = body.matches("\"ended_at\":").count();
        let open = body.matches("\"ended_at\":null").count();
        (all >= 2 && open == 0).then_some(())
    });
    finding.measure(format!(
        "{} requests, outcomes seen: {}",
        echo.count(),
        ended.is_ok()
    ));
    for path in [
        "/api/v1/deliveries",
        "/api/v1/episodes",
        "/api/v1/alerts",
        "/api/v1/snapshot",
        "/metrics",
        "/-/ready",
        "/-/healthy",
    ] {
        let body = site.daemon()?.get(path)?.body;
        finding.expect(!body.contains(SECRET), format!("{path} has the secret"));
    }
    let (_, log) = site.stop()?;
    let line = log.lines().find(|line| line.contains(SECRET));
    finding.expect(line.is_none(), format!("the log has the secret: {line:?}"));
    Ok(finding)
}

/// Signs that change how a line is read, or that nobody sees.
const SIGNS: [char; 12] = [
    '\u{202e}', '\u{202d}', '\u{2066}', '\u{2069}', '\u{200b}', '\u{200d}', '\u{200f}', '\u{feff}',
    '\u{061c}', '\u{2028}', '\u{1b}', '\u{9b}',
];

/// All texts of a page but what receivers know its entity by.
fn texts<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if ["title", "text", "summary", "playbook"].contains(&name) => {
            found.push(text);
        }
        Value::Object(fields) => fields
            .iter()
            .for_each(|(name, value)| texts(value, name, found)),
        Value::Array(values) => values.iter().for_each(|value| texts(value, name, found)),
        _ => {}
    }
}

fn hidden_signs(settings: &Settings) -> Result<Finding> {
    let mut finding = Finding::default();
    let mut site = Site::new(settings, "hidden-signs")?;
    let tables = format!(
        "[[channel]]\nname = \"lines\"\ntype = \"log\"\n{}[[route]]\nchannels = [\"lines\", \"pager\"]\n",
        channel("pager", &site.pager.url(), "")
    );
    site.configure("", &tables)?;
    site.start()?;
    let (mut refused, mut taken) = (0, 0);
    for (number, sign) in SIGNS.iter().enumerate() {
        // One that is refused with a reason harms nobody.
        let sku = format!("sign{number}{sign}{sign}end");
        match site.sell_below(&sku)?.rejected {
            0 => taken += 1,
            _ => refused += 1,
        }
    }
    let arrived = wait::until("their pages", Duration::from_secs(10), || {
        (site.pager.count() >= taken).then_some(())
    });
    finding.measure(format!(
        "{taken} signs taken, {refused} refused, {} pages",
        site.pager.count()
    ));
    finding.expect(
        arrived.is_ok(),
        format!("{} of {taken} pages came", site.pager.count()),
    );
    for (_, body) in site.pager.taken() {
        let page: Value = serde_json::from_str(&body)?;
        let mut found = Vec::new();
        texts(&page, "", &mut found);
        let bad = found.iter().find(|text| text.contains(SIGNS));
        finding.expect(bad.is_none(), format!("a page has a hidden sign: {bad:?}"));
    }
    let (_, log) = site.stop()?;
    let line = log.lines().find(|line| line.contains(SIGNS));
    finding.expect(
        line.is_none(),
        format!("the terminal was shown a hidden sign: {line:?}"),
    );
    Ok(finding)
}
