//! Every mistake of a config is told at once, and none that only follows from another.

use super::*;

fn mistakes_of(text: &str) -> String {
    let error = Config::parse("fenghuo.toml", text).unwrap_err();
    format!("{:#}", anyhow::Error::from(error))
}

/// Each once, in the order of the lines, and none that only follows from another.
#[test]
fn all_mistakes_are_told_at_once() {
    insta::assert_snapshot!(mistakes_of(include_str!("../many_mistakes.toml")));
}

#[test]
fn what_only_follows_from_a_mistake_is_not_told() {
    for (text, told) in [
        ("log = { kind = 1, retention = \"7d\" }", "log.kind: is"),
        (
            "log = { kid = \"embedded\", folder = \"a\" }",
            "log.kid: in",
        ),
        (
            "http = { listen = \"0.0.0.0:1\", token_fil = \"a\" }",
            "http.token_fil: in",
        ),
        (
            concat!(
                "intake = { wach = \"in\", mappings = [\"",
                env!("CARGO_MANIFEST_DIR"),
                "/../../deploy/mappings/order-list.toml\"] }"
            ),
            "intake.wach: in",
        ),
        (
            "kafka.tls = { cert_file = 1, ca_file = \"a\" }",
            "kafka.tls.cert_file: is",
        ),
        (
            "kafka.sasl = { mechanism = \"PLAIN\", usrname = \"u\", password_file = \"p\" }",
            "kafka.sasl.usrname: in",
        ),
        (
            "topics = { streams = [\"order\"], names = { orders = \"x\" } }",
            "topics.streams[0]: unknown",
        ),
        (
            "route = [{ channels = [\"a\"] }]\n[[chanel]]\nname = \"a\"\ntype = \"log\"",
            "chanel[0]: there",
        ),
        (
            "channel = [{ name = \"a b\", type = \"log\" }]\nroute = [{ channels = [\"a\"] }]",
            "channel 1: name: \"a b\"",
        ),
        (
            "channel = [{ name = \"a\", type = \"log\" }]\n[[rout]]\nchannels = [\"a\"]",
            "rout[0]: there",
        ),
        (
            "channel = [{ name = \"a\", type = \"log\" }]\n[[route]]\nchannels = \"a\"",
            "route[0].channels: is",
        ),
        (
            "catalogue.files = [\"none.toml\"]\nchannel = [{ name = \"a\", type = \"log\" }]\n\
             route = [{ channels = [\"a\"], signal = [\"own\"] }]",
            "none.toml: cannot be read",
        ),
    ] {
        let said = mistakes_of(text);
        assert_eq!(said.lines().count(), 1, "{text}\n{said}");
        assert!(said.contains(told), "{text}\n{said}");
    }
}

#[test]
fn the_first_fifty_mistakes_are_told() {
    let one = "[[route]]\nchannels = []\nseverity = [\"loud\"]\n";
    let many = |routes| mistakes_of(&one.repeat(routes));
    assert_eq!(many(25).lines().count(), 50);
    let told = many(200);
    assert_eq!(told.lines().count(), 51);
    assert_eq!(told.lines().last(), Some("fenghuo.toml: and more"));
    let unknown: String = (0..20_000).map(|n| format!("key{n} = 1\n")).collect();
    assert_eq!(mistakes_of(&unknown).lines().count(), 51);
}

#[test]
fn all_mistakes_of_a_plan_are_told_at_once() {
    let text = r#"
        [[campaign]]
        nam = "a"
        start = "soon"
        end = 2026-11-12T00:00:00+08:00
        flashes = [2026-11-11T00:00:00+08:00]
        ship_within = "48"
        curve = [{ at = "1h500ms" }, { at = "2h", orders = -1, unit = 2 }, { at = "1h", revenue = "x" }]

        [[campaign.sku]]
        planned_units = "many"

        [[campaign.staff]]
        role = ""
        at = "1h"

        [[sku]]
        id = "8001"
        price_floor = "18"
        price_ceiling = "7"

        [[sku]]
        id = "8001"
        max_discount = 5
    "#;
    let folder = tempfile::tempdir().unwrap();
    let plan = folder.path().join("plan.toml");
    std::fs::write(&plan, text).unwrap();
    let file = folder.path().join("fenghuo.toml");
    std::fs::write(&file, "plans.files = [\"plan.toml\"]\nshop.idd = \"1\"\n").unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    let place = format!("{}/", folder.path().display());
    insta::assert_snapshot!(error.replace(&place, ""));
}

#[test]
fn a_mistake_of_every_rule_is_told_at_once() {
    let folder = tempfile::tempdir().unwrap();
    let limit = "page = [{ read = \"value\", below = 0, clear = 1 }]\n";
    let rule = |name: &str, signal: &str| {
        format!("[[rule]]\nname = \"{name}\"\nsignal = \"{signal}\"\n{limit}")
    };
    let rules = [
        rule("a", "price.flor"),
        rule("b", "price.floor"),
        rule("B", "price.floor"),
        rule("b", "price.floor"),
    ];
    std::fs::write(folder.path().join("mine.toml"), rules.concat()).unwrap();
    let other = rule("c", "price.floor") + "inhibited_by = [\"b\"]\n";
    std::fs::write(folder.path().join("other.toml"), other).unwrap();
    let file = folder.path().join("fenghuo.toml");
    let text = "shop.id = 1\nrules.files = [\"mine.toml\", \"other.toml\"]\nshop.currency = 2\n";
    std::fs::write(&file, text).unwrap();
    let error = Config::load(&file).unwrap_err().to_string();
    let place = format!("{}/", folder.path().display());
    // That of the second file may follow from those of the first.
    insta::assert_snapshot!(error.replace(&place, ""), @r#"
    fenghuo.toml:1: shop.id: is integer 1; expected text in quotes
    mine.toml:3: rule "a": unknown signal "price.flor"; did you mean "price.floor"?
    mine.toml:10: name is "B"; expected lower-case letters, digits, '-' and '.', from a letter on, at most 64
    mine.toml:13: rule "b": name is "b", as at line 5; expected a name of its own
    fenghuo.toml:3: shop.currency: is integer 2; expected text in quotes
    "#);
}

/// A socket is made in the folder of the log.
#[test]
fn a_folder_whose_name_is_too_long_for_a_socket_is_refused() {
    let config = |bytes: usize| {
        let folder = "d".repeat(bytes);
        let text = format!("log = {{ kind = \"embedded\", folder = \"{folder}\" }}");
        Config::parse("fenghuo.toml", &text)
    };
    let longest = if cfg!(target_os = "linux") { 99 } else { 95 };
    assert!(config(longest).is_ok());
    let told = config(longest + 1).unwrap_err().to_string();
    let said = format!(
        "dd has a name of {} bytes; a socket is made in it, so that at most {longest} can be used",
        longest + 1
    );
    assert!(
        told.starts_with("fenghuo.toml:1: log.folder: the folder dd") && told.contains(&said),
        "{told}"
    );
}

#[test]
fn a_secret_of_several_lines_is_refused_and_every_one_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("fenghuo.toml");
    let text = r#"
        http.token_file = "two"
        intake.token_file = "nul"
        kafka.sasl = { mechanism = "PLAIN", username = "u", password_file = "two" }
        channel = [{ name = "a", type = "slack", url_file = "address" }]
        route = [{ channels = ["a"] }]
    "#;
    std::fs::write(&file, text).unwrap();
    for (name, secret) in [
        ("two", "8b1c7f0e5d2a4f60\n8b1c7f0e5d2a4f61\n"),
        ("nul", "8b1c7f0e5d2a\u{0}4f60\n"),
        ("address", "https://127.0.0.1/8b1c7f0e\n5d2a4f60\n"),
    ] {
        std::fs::write(folder.path().join(name), secret).unwrap();
    }
    let config = Config::load(&file).unwrap();
    let told = config.check_secrets().unwrap_err().to_string();
    let place = format!("{}/", folder.path().display());
    insta::assert_snapshot!(told.replace(&place, ""), @r#"
    http.token: file two has 2 lines; expected one line, the secret alone
    intake.token: file nul has a control character in it, or another that cannot be seen; expected one line, the secret alone
    kafka.sasl.password: file two has 2 lines; expected one line, the secret alone
    fenghuo.toml: channel "a": url: file address has 2 lines; expected one line, the secret alone
    "#);
    for error in [
        config.token().unwrap_err(),
        config.intake_token().unwrap_err(),
    ] {
        assert!(!error.to_string().contains("8b1c"), "{error}");
    }
}
