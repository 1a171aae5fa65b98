//! Secrets: brokers with TLS and a password, HTTP with a token, and no word of them in a log.

use fenghuo_tests::http;
use fenghuo_tests::installation::Installation;
use xtask::services::{Kafka, SUPER_USER};

const TOKEN: &str = "wYwNo4uWWKqJzUeoCWdZsJhVNsJ5Hv3L";

#[test]
fn a_daemon_with_secrets_works_and_keeps_them() {
    let kafka = Kafka::start().unwrap();
    let mut installation = Installation::new().unwrap();
    installation.set("FENGHUO_TEST_PASSWORD", SUPER_USER.password);
    installation.write("token", format!("{TOKEN}\n")).unwrap();
    let config = format!(
        r#"
http.token_file = "token"
[kafka.tls]
ca_file = {:?}
[kafka.sasl]
mechanism = "SCRAM-SHA-512"
username = {:?}
password_env = "FENGHUO_TEST_PASSWORD"
"#,
        kafka.ca_file(),
        SUPER_USER.user,
    );
    installation
        .configure(&kafka.sasl_bootstrap(), &config)
        .unwrap();
    // At the most talkative level, so that what is never logged is never logged.
    let mut daemon = installation
        .start(["--log", "debug", "run", "--config", "fenghuo.toml"])
        .unwrap();
    daemon
        .until("the daemon to be ready", |daemon| {
            (daemon.get("/-/ready").ok()?.status == 200).then_some(())
        })
        .unwrap();

    for path in ["/metrics", "/api/v1/totals", "/api/v1/live", "/api/v1/none"] {
        assert_eq!(daemon.get(path).unwrap().status, 401, "{path}");
        let wrong = http::get(&daemon.url(path), &[("authorization", "Bearer guess")]);
        assert_eq!(wrong.unwrap().status, 401, "{path}");
    }
    let in_address = format!("/api/v1/totals?token={TOKEN}");
    assert_eq!(daemon.get(&in_address).unwrap().status, 401);
    for path in ["/-/healthy", "/-/ready", "/"] {
        assert_eq!(daemon.get(path).unwrap().status, 200, "{path}");
    }
    daemon.send_header("authorization", &format!("Bearer {TOKEN}"));
    assert_eq!(daemon.get("/api/v1/totals").unwrap().status, 200);
    assert!(
        daemon
            .get("/metrics")
            .unwrap()
            .body
            .contains("fenghuo_ready 1")
    );

    let (status, log) = daemon.terminate().unwrap();
    assert!(status.success(), "{status}: {log}");
    assert!(!log.is_empty());
    for secret in [TOKEN, SUPER_USER.password] {
        assert!(!log.contains(secret), "a secret is in the log: {log}");
    }
}

#[test]
fn a_wrong_password_ends_the_daemon_without_repeating_it() {
    let kafka = Kafka::start().unwrap();
    let installation = Installation::new().unwrap();
    installation.write("password", "a-wrong-guess").unwrap();
    let config = format!(
        "[kafka.tls]\nca_file = {:?}\n[kafka.sasl]\nmechanism = \"SCRAM-SHA-512\"\nusername = {:?}\n\
         password_file = \"password\"\n",
        kafka.ca_file(),
        SUPER_USER.user,
    );
    installation
        .configure(&kafka.sasl_bootstrap(), &config)
        .unwrap();
    let mut daemon = installation
        .start(["run", "--config", "fenghuo.toml"])
        .unwrap();
    let (status, log) = daemon.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{log}");
    assert!(log.contains("uthentication"), "{log}");
    assert!(!log.contains("a-wrong-guess"), "{log}");
}

#[test]
fn an_open_address_without_a_token_is_a_mistake_in_the_config() {
    let installation = Installation::new().unwrap();
    installation
        .write("fenghuo.toml", "http.listen = \"0.0.0.0:0\"\n")
        .unwrap();
    for command in ["run", "check"] {
        let mut process = installation
            .start([command, "--config", "fenghuo.toml"])
            .unwrap();
        let (status, log) = process.wait().unwrap();
        assert_eq!(status.code(), Some(78), "{command}: {log}");
        assert!(
            log.contains("http.listen") && log.contains("token"),
            "{command}: {log}"
        );
    }
}
