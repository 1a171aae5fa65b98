//! Throw-away certificates: an authority, a server on loopback, and a client, made with openssl.
//!
//! The keys are as private as the temporary directory they lie in; nothing but a test may trust
//! this authority.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::{require, run};

/// Paths of the files made, all PEM.
#[derive(Debug)]
pub(crate) struct Certificates {
    /// The authority's certificate.
    pub(crate) ca: PathBuf,
    /// The server's key and certificate in one file, as Kafka wants its key store.
    pub(crate) server: PathBuf,
    /// The client's certificate.
    pub(crate) client_certificate: PathBuf,
    /// The client's key.
    pub(crate) client_key: PathBuf,
}

impl Certificates {
    /// The common name of the client certificate, by which Kafka names its user.
    pub(crate) const CLIENT_NAME: &'static str = "fenghuo-client";

    /// Makes them all in `dir`.
    pub(crate) fn make(dir: &Path) -> Result<Self> {
        require("openssl", &["openssl"])?;
        let path = |name: &str| dir.join(name);
        run(openssl("req")
            .args([
                "-x509",
                "-days",
                "30",
                "-subj",
                "/CN=fenghuo-test-authority",
            ])
            .args(NEW_KEY)
            .args(["-addext", "basicConstraints=critical,CA:TRUE"])
            .arg("-keyout")
            .arg(path("ca.key"))
            .arg("-out")
            .arg(path("ca.pem")))?;
        sign(
            dir,
            "server",
            "localhost",
            "subjectAltName=DNS:localhost,IP:127.0.0.1",
        )?;
        sign(
            dir,
            "client",
            Self::CLIENT_NAME,
            "extendedKeyUsage=clientAuth",
        )?;

        let read = |name: &str| fs::read(path(name)).with_context(|| format!("reading {name}"));
        let mut server = read("server.key")?;
        server.extend(read("server.pem")?);
        fs::write(path("server.keystore.pem"), server).context("writing server.keystore.pem")?;
        Ok(Self {
            ca: path("ca.pem"),
            server: path("server.keystore.pem"),
            client_certificate: path("client.pem"),
            client_key: path("client.key"),
        })
    }
}

/// An elliptic key, which takes openssl milliseconds where RSA takes up to a second.
const NEW_KEY: [&str; 5] = [
    "-newkey",
    "ec",
    "-pkeyopt",
    "ec_paramgen_curve:P-256",
    "-nodes",
];

/// Makes `<name>.key` and `<name>.pem`, signed by the authority in `dir`.
fn sign(dir: &Path, name: &str, common_name: &str, extension: &str) -> Result<()> {
    let path = |ending: &str| dir.join(format!("{name}.{ending}"));
    fs::write(path("ext"), extension).with_context(|| format!("writing {name}.ext"))?;
    run(openssl("req")
        .args(["-new", "-subj", &format!("/CN={common_name}")])
        .args(NEW_KEY)
        .arg("-keyout")
        .arg(path("key"))
        .arg("-out")
        .arg(path("csr")))?;
    run(openssl("x509")
        .args(["-req", "-days", "30", "-CAcreateserial"])
        .arg("-in")
        .arg(path("csr"))
        .arg("-CA")
        .arg(dir.join("ca.pem"))
        .arg("-CAkey")
        .arg(dir.join("ca.key"))
        .arg("-extfile")
        .arg(path("ext"))
        .arg("-out")
        .arg(path("pem")))?;
    Ok(())
}

fn openssl(verb: &str) -> Command {
    let mut command = Command::new("openssl");
    command.arg(verb);
    command
}
