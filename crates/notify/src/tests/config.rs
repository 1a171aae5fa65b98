//! The config: what is taken, and what each mistake is told.

use std::time::Duration;

use crate::{ChannelConfig, ChannelKind, Means, Notifier, SecretSource, Terminal};

const FULL: &str = r#"
[[channel]]
name = "terminal"
type = "log"
colour = "never"
utc_offset = "-03:30"

[[channel]]
name = "hook"
type = "webhook"
url = "https://hooks.example/in"
secret_file = "secrets/hook"
rate_per_minute = 30
burst = 3
in_flight_max = 2
timeout = "2s"
deadline = "1m 30s"
title = "{{ rule }}"

[[channel]]
name = "pager"
type = "pagerduty"
routing_key_env = "PAGERDUTY_KEY"

[[channel]]
name = "am"
type = "alertmanager"
urls = ["http://am1:9093", "http://am2:9093/alerts"]
refresh = "30s"

[[channel]]
name = "chat"
type = "slack"
url_file = "/run/secrets/slack"
"#;

#[test]
fn every_type_is_read() {
    let channels = ChannelConfig::parse("etc/fenghuo.toml", FULL).unwrap();
    let names: Vec<&str> = channels
        .iter()
        .map(|channel| channel.name.as_str())
        .collect();
    assert_eq!(names, ["terminal", "hook", "pager", "am", "chat"]);
    assert!(matches!(
        channels[0].kind,
        ChannelKind::Log {
            utc_offset_min: -210,
            ..
        }
    ));
    let hook = &channels[1];
    let secret = SecretSource::File("etc/secrets/hook".into());
    assert!(
        matches!(&hook.kind, ChannelKind::Webhook { secrets: Some(given), .. } if *given == secret),
        "a path is relative to the config's folder"
    );
    assert_eq!(hook.sending.deadline, Duration::from_secs(90));
    assert_eq!((hook.sending.rate_per_minute, hook.sending.burst), (30, 3));
    assert_eq!(
        channels[2].sending.rate_per_minute, 120,
        "a type has its own defaults"
    );
    assert!(
        matches!(&channels[4].kind, ChannelKind::Slack { url } if *url == SecretSource::File("/run/secrets/slack".into()))
    );
}

#[test]
fn every_mistake_is_told() {
    let hook = "name = \"h\"\ntype = \"webhook\"\nurl = \"https://x.example\"\nunsigned = true\n";
    let cases = [
        ("name = \"a\"\n", ""),
        ("name = \"\u{1b}[2J\"\ntype = \"log\"\n", ""),
        ("type = \"log\"\n", ""),
        ("name = \"a\"\ntype = \"pagerdtuy\"\n", ""),
        ("name = \"a\"\ntype = 3\n", ""),
        ("name = \"a\"\ntype = \"log\"\ncolor = \"never\"\n", ""),
        ("name = \"a\"\ntype = \"log\"\nutc_offset = \"8\"\n", ""),
        ("name = \"a\"\ntype = \"pagerduty\"\n", ""),
        (
            "name = \"a\"\ntype = \"pagerduty\"\nrouting_key = \"topsecret\"\n",
            "",
        ),
        (
            "name = \"a\"\ntype = \"slack\"\nurl = \"https://hooks.example/topsecret\"\n",
            "",
        ),
        (
            "name = \"a\"\ntype = \"slack\"\nurl_file = \"a\"\nurl_env = \"B\"\n",
            "",
        ),
        (
            "name = \"a\"\ntype = \"webhook\"\nurl = \"https://x.example\"\n",
            "",
        ),
        ("name = \"a\"\ntype = \"webhook\"\nunsigned = true\n", ""),
        (
            "name = \"a\"\ntype = \"webhook\"\nunsigned = true\nurl = \"https://u:topsecret@x\"\n",
            "",
        ),
        (
            "name = \"a\"\ntype = \"webhook\"\nunsigned = true\nurl = \"ftp://x\"\n",
            "",
        ),
        ("name = \"a\"\ntype = \"alertmanager\"\nurls = []\n", ""),
        ("name = \"a\"\ntype = \"alertmanager\"\n", ""),
        (
            "name = \"a\"\ntype = \"alertmanager\"\nurls = \"http://am:9093\"\n",
            "",
        ),
        (
            "name = \"a\"\ntype = \"alertmanager\"\nurls = [\"am:9093\"]\n",
            "",
        ),
        (
            "name = \"a\"\ntype = \"alertmanager\"\nurls = [\"http://am\"]\nresolved_for = \"1m\"\n",
            "",
        ),
        (hook, "timeout = \"5\"\n"),
        (hook, "timeout = \"5h\"\n"),
        (hook, "timeout = \"0s\"\n"),
        (hook, "burst = 0\n"),
        (hook, "burst = \"3\"\n"),
        (hook, "rate_per_minutes = 30\n"),
        (hook, "title = \"{{ rule\"\n"),
        (hook, "text = \"line\\n{% if rule %}\"\n"),
        (hook, "\n[[channel]]\nname = \"h\"\ntype = \"log\"\n"),
        (hook, "\n[[chanel]]\nname = \"i\"\ntype = \"log\"\n"),
        (hook, "routing_key = \"topsecret\n"),
    ];
    let mut told = String::new();
    for (start, end) in cases {
        let text = format!("[[channel]]\n{start}{end}");
        let error = ChannelConfig::parse("fenghuo.toml", &text)
            .expect_err(&text)
            .to_string();
        assert!(!error.contains("topsecret"), "{error}");
        told.push_str(&error);
        told.push('\n');
    }
    insta::assert_snapshot!(told);
}

#[test]
fn a_template_that_takes_too_much_is_told_where_it_is() {
    let costly = "line\\n{% for a in range(500) %}{{ labels|string|list|sort }}{% endfor %}";
    let text = format!("[[channel]]\nname = \"a\"\ntype = \"log\"\ntext = \"{costly}\"\n");
    let error = ChannelConfig::parse("fenghuo.toml", &text).unwrap_err();
    let error = error.to_string();
    assert!(
        error.starts_with("fenghuo.toml: channel \"a\": text: ") && error.contains("(line 2)"),
        "{error}"
    );
}

#[test]
fn secrets_are_read_when_the_notifier_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fenghuo.toml");
    let file = file.to_str().unwrap();
    let text = "[[channel]]\nname = \"p\"\ntype = \"pagerduty\"\nrouting_key_file = \"key\"\n";
    let make = || {
        let means = Means {
            terminal: Terminal::new(Box::new(std::io::sink()), false),
            ..Means::system().unwrap()
        };
        Notifier::with(ChannelConfig::parse(file, text).unwrap(), means).map(|_| ())
    };
    let error = make().unwrap_err().to_string();
    assert!(
        error.contains("fenghuo.toml: channel \"p\": routing_key: cannot read file"),
        "{error}"
    );
    std::fs::write(folder.path().join("key"), "topsecret\n").unwrap();
    let error = make().unwrap_err().to_string();
    assert!(
        error.contains("9 bytes") && !error.contains("topsecret"),
        "{error}"
    );
    std::fs::write(
        folder.path().join("key"),
        "0123456789abcdef0123456789abcdef\n",
    )
    .unwrap();
    make().unwrap();
}
