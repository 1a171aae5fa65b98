//! One Apache Kafka broker (KRaft, one node) from Maven Central's jars.
//!
//! It is the only broker the tests believe: others do not keep the transactional promises. Its
//! listeners are plain text, SASL over TLS (SCRAM-SHA-512 and PLAIN), and TLS with a client
//! certificate, all on loopback.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result};

use super::certificates::Certificates;
use super::{cache_dir, free_ports, require, run};
use crate::keeper::Kept;

const KAFKA_VERSION: &str = "4.1.0";
const SCALA_VERSION: &str = "2.13";
const LOG4J_VERSION: &str = "2.24.3";
/// How long a broker may take to answer; it takes about two seconds on an idle machine.
const UP_WITHIN: Duration = Duration::from_secs(90);
/// Tries with other ports, for the case that someone took a free one before the broker did.
const TRIES: u32 = 3;
/// Files of the broker's directory.
const PROPERTIES: &str = "server.properties";
const LOG4J_PROPERTIES: &str = "log4j2.properties";
const JAVA_PACKAGES: [&str; 2] = ["openjdk-17-jre-headless", "maven"];

/// A user of the SASL listener.
#[derive(Clone, Copy, Debug)]
pub struct Credentials {
    /// User name.
    pub user: &'static str,
    /// Password.
    pub password: &'static str,
}

/// May do everything.
pub const SUPER_USER: Credentials = Credentials {
    user: "fenghuo",
    password: "beacon-tower",
};
/// May log in and nothing else: no right is ever granted to it.
pub const GUEST: Credentials = Credentials {
    user: "guest",
    password: "no-rights",
};

/// A running broker with an empty disk. It ends with this value, and also when the process that
/// owns it ends without dropping it.
#[derive(Debug)]
pub struct Kafka {
    /// The process that runs after a restart; it ends before the directory that it uses.
    again: Option<Kept>,
    /// The first process, and the directory of all.
    kept: Kept,
    jars: PathBuf,
    ports: Ports,
    certificates: Certificates,
}

#[derive(Clone, Debug)]
struct Ports {
    plain: u16,
    sasl: u16,
    tls: u16,
    controller: u16,
    relayed: Vec<Relayed>,
}

/// A plain-text listener that clients reach through a relay.
#[derive(Clone, Copy, Debug)]
struct Relayed {
    /// Where the broker listens.
    port: u16,
    /// Where it says that it is: the relay's port.
    advertised: u16,
}

impl Kafka {
    /// Fetches what is missing, starts a broker and waits until it answers.
    ///
    /// # Errors
    /// When java, maven or openssl are missing and cannot be installed, when the jars cannot be
    /// fetched, or when the broker does not come up; the end of its log is in the error.
    pub fn start() -> Result<Self> {
        Self::start_behind(&[])
    }

    /// The same with one more plain-text listener for each of `relays`, ports on loopback: who
    /// comes through a relay is told that the broker is there, and stays behind the relay. Where
    /// a relay is to send what it gets says [`Kafka::relayed_port`].
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_behind(relays: &[u16]) -> Result<Self> {
        Self::start_as(relays, "")
    }

    /// The same with further lines of the broker's config, as a cluster of a shop has it: the broker of
    /// tests is quicker than that where nothing is measured by it.
    ///
    /// # Errors
    /// As [`Kafka::start`].
    pub fn start_as(relays: &[u16], config: &str) -> Result<Self> {
        require("java", &JAVA_PACKAGES)?;
        let jars = fetch_jars()?;
        let mut last = None;
        for _ in 0..TRIES {
            match Self::start_once(&jars, relays, config) {
                Ok(kafka) => return Ok(kafka),
                Err(error) => last = Some(error),
            }
        }
        Err(last.context("no try was made")?)
    }

    /// The plain-text listener, `host:port`.
    pub fn bootstrap(&self) -> String {
        address(self.ports.plain)
    }

    /// Where the broker listens for the relay of this number.
    ///
    /// # Panics
    /// When it was started with fewer relays.
    pub fn relayed_port(&self, relay: usize) -> u16 {
        self.ports.relayed[relay].port
    }

    /// Kills the broker as a crash would: nothing is flushed, nobody is told.
    ///
    /// # Errors
    /// When it does not go.
    pub fn kill(&self) -> Result<()> {
        self.again.as_ref().unwrap_or(&self.kept).kill()
    }

    /// Starts the broker again after [`Kafka::kill`], on the same disk and ports, and does not wait
    /// for it.
    ///
    /// # Errors
    /// When there is no room for its log, or no shell.
    pub fn start_again(&mut self) -> Result<()> {
        self.again = None;
        let directory = self.kept.directory();
        let log = tempfile::Builder::new()
            .prefix("fenghuo-kafka-again-")
            .tempdir()
            .context("temporary directory")?;
        self.again = Some(Kept::start(&broker(&self.jars, directory), log)?);
        Ok(())
    }

    /// Waits until the broker answers.
    ///
    /// # Errors
    /// When it does not come up; the end of its log is in the error.
    pub fn wait_until_up(&self) -> Result<()> {
        wait_until_up(self.again.as_ref().unwrap_or(&self.kept), &self.ports)
    }

    /// The listener with TLS and SASL, `host:port`.
    pub fn sasl_bootstrap(&self) -> String {
        address(self.ports.sasl)
    }

    /// The listener with TLS that asks for a client certificate, `host:port`.
    pub fn tls_bootstrap(&self) -> String {
        address(self.ports.tls)
    }

    /// Certificate of the authority that signed the broker's, PEM.
    pub fn ca_file(&self) -> &Path {
        &self.certificates.ca
    }

    /// A client certificate that [`Kafka::tls_bootstrap`] accepts, PEM.
    pub fn client_certificate_file(&self) -> &Path {
        &self.certificates.client_certificate
    }

    /// The key of [`Kafka::client_certificate_file`], PEM.
    pub fn client_key_file(&self) -> &Path {
        &self.certificates.client_key
    }

    /// The broker's own log, for a look after a failure.
    pub fn log_file(&self) -> PathBuf {
        self.kept.directory().join("log")
    }

    /// One of Kafka's own tools, such as `org.apache.kafka.tools.TopicCommand`, ready to be given
    /// arguments and run: a foreign client to check ours against.
    pub fn tool(&self, class: &str) -> Command {
        java(&self.jars, class)
    }

    fn start_once(jars: &Path, relays: &[u16], config: &str) -> Result<Self> {
        let temporary = tempfile::Builder::new()
            .prefix("fenghuo-kafka-")
            .tempdir()
            .context("temporary directory")?;
        let certificates = Certificates::make(temporary.path())?;
        let [plain, sasl, tls, controller] = free_ports()?;
        let mut relayed = Vec::new();
        for advertised in relays {
            let [port] = free_ports()?;
            relayed.push(Relayed {
                port,
                advertised: *advertised,
            });
        }
        let ports = Ports {
            plain,
            sasl,
            tls,
            controller,
            relayed,
        };
        let properties = temporary.path().join(PROPERTIES);
        fs::write(
            &properties,
            server_properties(temporary.path(), &ports, &certificates) + config,
        )?;
        fs::write(temporary.path().join(LOG4J_PROPERTIES), LOG4J)?;
        format_storage(jars, &properties)?;

        let kept = Kept::start(&broker(jars, temporary.path()), temporary)?;
        wait_until_up(&kept, &ports)?;
        Ok(Self {
            again: None,
            kept,
            jars: jars.to_owned(),
            ports,
            certificates,
        })
    }
}

/// The broker's command line, with what it needs in `directory`.
fn broker(jars: &Path, directory: &Path) -> Command {
    let log4j = directory.join(LOG4J_PROPERTIES);
    let mut broker = Command::new("java");
    broker
        .arg("-Xmx1g")
        .arg(format!("-Dlog4j2.configurationFile={}", log4j.display()))
        .args(java(jars, "kafka.Kafka").get_args())
        .arg(directory.join(PROPERTIES));
    broker
}

fn wait_until_up(kept: &Kept, ports: &Ports) -> Result<()> {
    kept.wait_until_up("Apache Kafka", UP_WITHIN, || {
        answers(ports.plain) && connect(ports.sasl).is_some()
    })
}

fn java(jars: &Path, class: &str) -> Command {
    let mut command = Command::new("java");
    command.arg("-cp").arg(jars.join("*")).arg(class);
    command
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

/// The jars of Kafka in the cache, fetched where they are missing. Several processes may do this
/// at once: each fetches into its own directory, and the first to rename it wins.
fn fetch_jars() -> Result<PathBuf> {
    let cache = cache_dir()?;
    let jars = cache.join(format!("kafka-{KAFKA_VERSION}"));
    if jars.is_dir() {
        return Ok(jars);
    }
    require("mvn", &JAVA_PACKAGES)?;
    fs::create_dir_all(&cache).with_context(|| format!("creating {}", cache.display()))?;
    let fetched = tempfile::Builder::new()
        .prefix("fetching-")
        .tempdir_in(&cache)?;
    let pom = fetched.path().join("pom.xml");
    let into = fetched.path().join("jars");
    fs::write(&pom, pom_xml())?;
    eprintln!(
        "xtask: fetching Apache Kafka {KAFKA_VERSION} into {}",
        jars.display()
    );
    run(Command::new("mvn")
        .args(["-q", "-B", "dependency:copy-dependencies", "-f"])
        .arg(&pom)
        .arg(format!("-DoutputDirectory={}", into.display())))
    .context("fetching Apache Kafka from Maven Central")?;
    if let Err(error) = fs::rename(&into, &jars)
        && !jars.is_dir()
    {
        return Err(error).with_context(|| format!("moving the jars to {}", jars.display()));
    }
    Ok(jars)
}

fn pom_xml() -> String {
    let dependencies: String = [
        (
            "org.apache.kafka",
            format!("kafka_{SCALA_VERSION}"),
            KAFKA_VERSION,
        ),
        ("org.apache.kafka", "kafka-tools".to_owned(), KAFKA_VERSION),
        (
            "org.apache.logging.log4j",
            "log4j-slf4j-impl".to_owned(),
            LOG4J_VERSION,
        ),
        (
            "org.apache.logging.log4j",
            "log4j-core".to_owned(),
            LOG4J_VERSION,
        ),
    ]
    .map(|(group, artifact, version)| {
        format!(
            "<dependency><groupId>{group}</groupId><artifactId>{artifact}</artifactId>\
             <version>{version}</version></dependency>"
        )
    })
    .concat();
    format!(
        "<project xmlns=\"http://maven.apache.org/POM/4.0.0\"><modelVersion>4.0.0</modelVersion>\
         <groupId>fenghuo</groupId><artifactId>test-services</artifactId><version>1</version>\
         <dependencies>{dependencies}</dependencies></project>"
    )
}

/// Gives the storage directory its identity and the SASL users.
fn format_storage(jars: &Path, properties: &Path) -> Result<()> {
    let tool = || java(jars, "kafka.tools.StorageTool");
    let id = run(tool().arg("random-uuid"))?;
    // Log lines may precede the identity, which is the last line.
    let id = id.lines().last().unwrap_or_default().trim();
    let mut format = tool();
    format.args(["format", "-t", id, "-c"]).arg(properties);
    for Credentials { user, password } in [SUPER_USER, GUEST] {
        format
            .arg("--add-scram")
            .arg(format!("SCRAM-SHA-512=[name={user},password={password}]"));
    }
    run(&mut format)?;
    Ok(())
}

fn server_properties(dir: &Path, ports: &Ports, certificates: &Certificates) -> String {
    let Ports {
        plain,
        sasl,
        tls,
        controller,
        relayed,
    } = ports;
    let each = |text: &dyn Fn(usize, &Relayed) -> String| -> String {
        let texts = relayed.iter().enumerate();
        texts
            .map(|(number, relayed)| text(number, relayed))
            .collect()
    };
    let listeners = each(&|number, relayed| format!(",R{number}://127.0.0.1:{}", relayed.port));
    let advertised =
        each(&|number, relayed| format!(",R{number}://127.0.0.1:{}", relayed.advertised));
    let protocols = each(&|number, _| format!(",R{number}:PLAINTEXT"));
    let data = dir.join("data");
    let plain_users: String = [SUPER_USER, GUEST]
        .map(|Credentials { user, password }| format!(" user_{user}=\"{password}\""))
        .concat();
    let client = Certificates::CLIENT_NAME;
    format!(
        "process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
controller.listener.names=CONTROLLER
listeners=PLAIN://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls},CONTROLLER://127.0.0.1:{controller}{listeners}
advertised.listeners=PLAIN://127.0.0.1:{plain},SASL://127.0.0.1:{sasl},TLS://127.0.0.1:{tls}{advertised}
listener.security.protocol.map=PLAIN:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL:SASL_SSL,TLS:SSL{protocols}
inter.broker.listener.name=PLAIN
log.dirs={data}
auto.create.topics.enable=false
group.initial.rebalance.delay.ms=0
offsets.topic.num.partitions=4
transaction.state.log.num.partitions=4
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
default.replication.factor=1
min.insync.replicas=1
log.cleaner.backoff.ms=200
sasl.enabled.mechanisms=SCRAM-SHA-512,PLAIN
listener.name.sasl.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;
listener.name.sasl.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required{plain_users};
ssl.keystore.type=PEM
ssl.keystore.location={server}
ssl.truststore.type=PEM
ssl.truststore.location={ca}
listener.name.tls.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{super_user};User:CN={client}
",
        data = data.display(),
        server = certificates.server.display(),
        ca = certificates.ca.display(),
        super_user = SUPER_USER.user,
    )
}

/// Logs of level INFO to the standard output, which is the log file.
const LOG4J: &str = "status=warn
appender.out.type=Console
appender.out.name=out
appender.out.layout.type=PatternLayout
appender.out.layout.pattern=[%d] %p %m (%c)%n
rootLogger.level=info
rootLogger.appenderRef.out.ref=out
";

/// Whether the broker answers the first request of the protocol on a plain-text port. A port that
/// merely accepts is not yet a broker that serves.
fn answers(port: u16) -> bool {
    // Length 10; ApiVersions (18) in version 0; correlation id 1; a null client id.
    const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 1, 0xff, 0xff];
    let Some(mut stream) = connect(port) else {
        return false;
    };
    let mut length = [0; 4];
    stream
        .set_read_timeout(Some(Duration::from_secs(2)))
        .is_ok()
        && stream.write_all(&API_VERSIONS).is_ok()
        && stream.read_exact(&mut length).is_ok()
}

fn connect(port: u16) -> Option<TcpStream> {
    let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    TcpStream::connect_timeout(&to, Duration::from_secs(1)).ok()
}
