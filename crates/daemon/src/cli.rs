//! The command line: what can be asked of the binary, and the help that explains it.
//!
//! Owns names, defaults and forms of arguments. It must never open a file or do anything: a
//! command line that is wrong ends here, by clap, with code 2.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::exit;

/// Watches a shop's big day from its event log, and wakes the right person within a second.
#[derive(Debug, Parser)]
#[command(
    name = "fenghuo",
    version,
    propagate_version = true,
    arg_required_else_help = true
)]
#[command(after_help = exit::HELP)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,

    /// How much is logged: error, warn, info, debug, or by module as in
    /// "info,fenghuo_kafka=debug".
    #[arg(long, global = true, value_name = "FILTER", default_value = "info")]
    pub log: String,

    /// Log lines as JSON.
    #[arg(long, global = true)]
    pub log_json: bool,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show a flash sale with four troubles in it, and what becomes of them
    Demo(Demo),
    /// Watch the shop's topics
    Run(Run),
    /// Write an annotated config, a sample plan and sample mappings
    Init(Init),
    /// Check a config and all that it names, and start nothing
    Check(Check),
    /// Put files of events into the shop's topics
    Load(Load),
    /// Take files of events through all stages in memory, as fast as it goes
    Replay(Replay),
    /// Play scenarios, and show each row that comes out otherwise than it says
    Test(Test),
    /// List the signals and the built-in rules
    Signals(Signals),
    /// Show what could not be taken, and re-submit it once mended
    #[command(subcommand)]
    DeadLetter(DeadLetter),
    /// Look after a folder that `run --data` made
    #[command(subcommand)]
    Log(Log),
    /// Show what shop a folder is of, and correct it
    #[command(subcommand)]
    Shop(Shop),
    /// Show which sets of catalogue and rules were in force, and go back to one
    #[command(subcommand)]
    Set(Set),
}

/// `fenghuo set`
#[derive(Debug, Subcommand)]
pub enum Set {
    /// List every set that was in force, the one in force last
    List(SetPlace),
    /// Go back to one, for all instances
    Use(SetUse),
}

/// `fenghuo set use`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo set use 3 --config fenghuo.toml
  fenghuo set use 3 --data fenghuo-data       also while a daemon runs on it

All instances take it up within seconds. A measure that it adds or changes is unknown until it was
counted for its window. An instance whose files say otherwise keeps saying so in /-/ready.")]
pub struct SetUse {
    /// Its number, as `fenghuo set list` tells it.
    #[arg(value_name = "NUMBER")]
    pub number: u64,
    /// Where the sets are.
    #[command(flatten)]
    pub of: SetPlace,
}

/// Where sets are.
#[derive(Debug, Default, Args)]
#[command(after_help = "\
Examples:
  fenghuo set list --config fenghuo.toml
  fenghuo set list --data fenghuo-data")]
pub struct SetPlace {
    /// Brokers and topics.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub config: Option<PathBuf>,
    /// In this folder.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `fenghuo shop`
#[derive(Debug, Subcommand)]
pub enum Shop {
    /// Show the shop's id, currency and time zone, as far as they are settled
    Show(ShopShow),
    /// Correct them, also while a daemon runs on the folder
    Set(ShopSet),
}

/// `fenghuo shop show`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo shop show                     ./fenghuo-data
  fenghuo shop show --data /var/lib/fenghuo")]
pub struct ShopShow {
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub data: PathBuf,
}

/// `fenghuo shop set`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo shop set --id tmall-42 --currency JPY --time-zone +09:00
  fenghuo shop set --data /var/lib/fenghuo --forget    the next events settle it anew

It counts at once, also while a daemon runs on the folder. What was refused as another shop's is in
fenghuo.dead-letter; stop the daemon and bring it back with `fenghuo dead-letter replay`.")]
pub struct ShopSet {
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub data: PathBuf,
    /// The id, as in meta.shop_id of its events.
    #[arg(long, value_name = "ID")]
    pub id: Option<String>,
    /// The currency, ISO 4217.
    #[arg(long, value_name = "CODE")]
    pub currency: Option<String>,
    /// The time zone: a fixed offset from UTC such as +09:00.
    #[arg(long, value_name = "OFFSET", value_parser = zone, allow_hyphen_values = true)]
    pub time_zone: Option<i32>,
    /// Forget what was learned; what is given beside it holds, the rest is learned anew.
    #[arg(long)]
    pub forget: bool,
}

fn zone(text: &str) -> Result<i32, String> {
    fenghuo_notify::utc_offset_min(text)
        .ok_or_else(|| "expected an offset from UTC such as +08:00".to_owned())
}

/// `fenghuo log`
#[derive(Debug, Subcommand)]
pub enum Log {
    /// Read all of a folder, compare every checksum, and say what it holds
    Verify(LogVerify),
    /// Print records as JSON lines
    Dump(LogDump),
    /// Copy a folder, also while a daemon runs on it
    Backup(LogBackup),
    /// Bring the history in a folder to Kafka, and go on there
    Copy(LogCopy),
    /// Copy a folder of an earlier build into this one's format
    Upgrade(LogUpgrade),
    /// Drop the damaged state of evaluate, so that the next start makes it again
    Refold(LogRefold),
}

/// `fenghuo log refold`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo log refold                    ./fenghuo-data
  fenghuo log refold --data /var/lib/fenghuo

For a folder of which log verify says that fenghuo.state is damaged, and nothing else. The folder must
be stopped. Everything but fenghuo.state is copied into a new file; the old one stays beside it as
log.redb.damaged. The next start folds all of fenghuo.panes again under the rules of its config, which
takes longer, and pages nobody for what is over.

It refuses when retention has dropped panes already: what they said is in fenghuo.state alone, and a
backup takes the folder's place then.")]
pub struct LogRefold {
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub data: PathBuf,
}

/// `fenghuo log upgrade`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo log upgrade                   ./fenghuo-data
  fenghuo log upgrade --data /var/lib/fenghuo

The folder must be stopped. The old file is read whole and every checksum compared before anything is
copied; it stays beside the new one as log.redb.old, to be removed once all is well. The disk needs
room for both.")]
pub struct LogUpgrade {
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub data: PathBuf,
}

/// `fenghuo log copy`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo log copy --to fenghuo.toml    ./fenghuo-data, to the brokers and topics of the config
  fenghuo log copy --from /var/lib/fenghuo --to /etc/fenghuo/fenghuo.toml

The folder must be stopped, or a backup, and everything in it judged; the topics there are made, or
empty and with as many partitions as here. Events, windows, levels and open episodes come along, and
so do the keys of what was sent: nothing is paged again, and what clears later resolves the page that
was sent from the folder. A copy that was broken off is taken up again by the same command; until it
is whole no daemon runs there. The folder stays as it is.")]
pub struct LogCopy {
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub from: PathBuf,
    /// The config of the daemon that will go on there.
    #[arg(long, value_name = "FILE")]
    pub to: PathBuf,
}

/// `fenghuo log backup`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo log backup /backup/fenghuo-2026-11-11
  fenghuo log backup copy --data /var/lib/fenghuo
  fenghuo run --data copy               a restart from it

The copy holds all that was committed at one instant. What came after it is not in it: pages that
were sent since are sent again if they were decided by then, under the same key, and what is told
again of later troubles is another episode.")]
pub struct LogBackup {
    /// The copy: a folder that is not there yet.
    #[arg(value_name = "TO")]
    pub to: PathBuf,
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub data: PathBuf,
}

/// `fenghuo log verify`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo log verify                    ./fenghuo-data
  fenghuo log verify --data /var/lib/fenghuo

The folder must be stopped, or a backup: a daemon that runs holds its folder alone.")]
pub struct LogVerify {
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub data: PathBuf,
}

/// `fenghuo log dump`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo log dump --topic fenghuo.alerts | jq .value
  fenghuo log dump --data backup --topic shop.orders | wc -l

The folder must be stopped, or a backup: a daemon that runs holds its folder alone. JSON values are
printed as they are, text as text, and anything else as {\"base64\": …}.")]
pub struct LogDump {
    /// The folder.
    #[arg(long, value_name = "DIR", default_value = "fenghuo-data")]
    pub data: PathBuf,
    /// Only this topic.
    #[arg(long, value_name = "TOPIC")]
    pub topic: Option<String>,
}

/// `fenghuo demo`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo demo                          then open http://127.0.0.1:8686/
  fenghuo demo --for 3m --seed 7        slower, with other customers
  fenghuo demo --speed 4                four times as fast")]
pub struct Demo {
    /// How long the flash, 19:58 to 20:10, takes to show.
    #[arg(long = "for", value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub span: Duration,
    /// Another seed is another crowd; the same one is the same to the last order.
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
    /// Where the screen, the API and the metrics are.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8686")]
    pub listen: SocketAddr,
    /// How much faster still.
    #[arg(long, value_name = "FACTOR", default_value = "1", value_parser = speed)]
    pub speed: f64,
}

/// `fenghuo run`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo run                           everything in ./fenghuo-data, nothing to configure
  fenghuo run --data /var/lib/fenghuo
  fenghuo run --config /etc/fenghuo/fenghuo.toml
  fenghuo run --config fenghuo.toml --log info,fenghuo_kafka=debug

SIGTERM and SIGINT drain: what has been read is committed, then the process ends with 0.")]
pub struct Run {
    /// The config; deploy/fenghuo.toml is the annotated example. Without one the built-in rules
    /// hold, pages are lines on standard output, and everything is kept in a folder.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Keep everything in this folder, whatever the config says of the log.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// `fenghuo init`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo init                          here
  fenghuo init /etc/fenghuo

A file that is there already stays as it is.")]
pub struct Init {
    /// Where they go.
    #[arg(value_name = "DIR", default_value = ".")]
    pub folder: PathBuf,
}

/// `fenghuo check`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo check --config fenghuo.toml   0 if it holds, 78 and the mistake if not

Secrets are not read, so that a config can be checked where it has none.")]
pub struct Check {
    /// The config, with the rules, plans, channels and routes that it names.
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// `fenghuo load`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo load orders.jsonl.gz inventory.jsonl --topic-prefix shop. --bootstrap localhost:9092
  fenghuo load orders.jsonl.gz --config fenghuo.toml
  fenghuo load orders.jsonl.gz --data fenghuo-data
  fenghuo load orders.jsonl.gz --to http://localhost:8686
  fenghuo load --config fenghuo.toml --csv orders deploy/mappings/uci-online-retail.toml \\
      online-retail.csv.gz

Lines that are no events go to the topic fenghuo.dead-letter with their file and line, and the
rest goes on. Loading a file again repeats its events; within the duplicates' horizon they count
once.")]
pub struct Load {
    /// Files of JSON lines, or with --csv of order lines; .gz is unpacked.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Take brokers and topics from a config.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["topic_prefix", "bootstrap"])]
    pub config: Option<PathBuf>,
    /// Into the topics of this folder, which no daemon holds meanwhile.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["topic_prefix", "bootstrap"])]
    pub data: Option<PathBuf>,
    /// To the daemon at this address, over HTTP. Lines that are no events are shown and not sent.
    #[arg(long, value_name = "URL", conflicts_with_all = ["config", "data", "topic_prefix", "bootstrap"])]
    pub to: Option<String>,
    /// Where the token is that the daemon wants of senders.
    #[arg(long, value_name = "FILE", requires = "to")]
    pub token_file: Option<PathBuf>,
    /// What comes before "orders", "inventory" … in the topics' names.
    #[arg(long, value_name = "PREFIX", default_value = "shop.")]
    pub topic_prefix: String,
    /// Some brokers, separated by commas.
    #[arg(
        long,
        value_name = "HOST:PORT",
        default_value = "localhost:9092",
        value_delimiter = ','
    )]
    pub bootstrap: Vec<String>,
    /// How to read CSV files.
    #[command(flatten)]
    pub csv: Csv,
}

/// `fenghuo replay`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo replay orders.jsonl.gz inventory.jsonl.gz
  fenghuo replay day.jsonl --config fenghuo.toml --report json > report.json
  fenghuo replay day.jsonl --readings readings.csv --every 1h --until 2026-11-12T00:00:00+08:00
  fenghuo replay --csv orders deploy/mappings/uci-online-retail.toml online-retail.csv.gz

Time is what the events say, so the same files give the same report, to the byte.")]
pub struct Replay {
    /// Files of JSON lines, or with --csv of order lines; .gz is unpacked, several are merged by
    /// time.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Rules, plans and bounds to replay with; without it the built-in ones, and any shop and
    /// currency.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The form of the report on standard output.
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub report: ReportForm,
    /// Also write readings, as CSV, into this file.
    #[arg(long, value_name = "FILE")]
    pub readings: Option<PathBuf>,
    /// How often readings are written, in event time.
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = duration, requires = "readings")]
    pub every: Duration,
    /// Let time pass to here at the end, RFC 3339; without it, to the last event.
    #[arg(long, value_name = "INSTANT", value_parser = instant_ms)]
    pub until: Option<i64>,
    /// How to read CSV files.
    #[command(flatten)]
    pub csv: Csv,
}

/// `fenghuo test`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo test --config fenghuo.toml coupons.md
  fenghuo test deploy/scenarios/*.md            what the built-in catalogue promises

A file is Markdown: a heading for each scenario, events as JSON, and tables of what is sent and of what
is expected. deploy/docs/scenarios.md tells the form. Ends with 1 if a row comes out otherwise.")]
pub struct Test {
    /// Files of scenarios.
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// The catalogue, rules, plans and bounds to play with; without it the built-in ones, and any
    /// shop and currency.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// `fenghuo signals`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo signals                       what is watched, in which unit
  fenghuo signals --json                the same for programs, with formulas
  fenghuo signals --config fenghuo.toml with those of its [catalogue] files
  fenghuo signals --rules > rules.toml  the built-in rules, to change")]
pub struct Signals {
    /// As JSON.
    #[arg(long, conflicts_with = "rules")]
    pub json: bool,
    /// The built-in rules instead, as the rules file that they are.
    #[arg(long)]
    pub rules: bool,
    /// Also what the files of this config's `[catalogue]` add.
    #[arg(long, value_name = "FILE", conflicts_with = "rules")]
    pub config: Option<PathBuf>,
}

/// `fenghuo dead-letter`
#[derive(Debug, Subcommand)]
pub enum DeadLetter {
    /// Show dead letters: when, why, from where, and how they begin
    List(DeadLetterList),
    /// Re-submit dead letters that would be taken now, each once
    Replay(DeadLetterReplay),
}

/// `fenghuo dead-letter list`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo dead-letter list --config fenghuo.toml
  fenghuo dead-letter list --config fenghuo.toml --reason other_shop --since 1h
  fenghuo dead-letter list --data fenghuo-data
  fenghuo dead-letter list --config fenghuo.toml --json | jq -r .reason | sort | uniq -c

What a letter says comes from outside: it is shown cut, on one line, with everything that a
terminal would not print written as escapes.")]
pub struct DeadLetterList {
    /// Where they are.
    #[command(flatten)]
    pub of: DeadLetterPlace,
    /// Which letters.
    #[command(flatten)]
    pub filter: DeadLetterFilter,
    /// How many of the newest are shown; the others are counted.
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub limit: u32,
    /// One JSON object a line.
    #[arg(long)]
    pub json: bool,
}

/// `fenghuo dead-letter replay`
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  fenghuo dead-letter replay --config fenghuo.toml --dry-run
  fenghuo dead-letter replay --config fenghuo.toml --reason other_currency
  fenghuo dead-letter replay --data fenghuo-data

Each letter's own bytes, key and content type go back to the topic that they came from, if this
build under this config would take them; the others are shown and left. Letters of the reason
\"late\" are never re-submitted: totals and levels have them already. What was re-submitted is
noted in fenghuo.dead-letter.replayed in the same transaction, so a second replay, or one that was
cut off, re-submits nothing twice. Let the daemon run with the mended config first: one that would
still reject a letter writes a new one. An event that is older than the horizon by now comes late: it
counts in totals and levels only.")]
pub struct DeadLetterReplay {
    /// Where they are.
    #[command(flatten)]
    pub of: DeadLetterPlace,
    /// Which letters.
    #[command(flatten)]
    pub filter: DeadLetterFilter,
    /// Only show what would be done.
    #[arg(long)]
    pub dry_run: bool,
}

/// Where dead letters are.
#[derive(Debug, Default, Args)]
pub struct DeadLetterPlace {
    /// Brokers, topics, and what is taken.
    #[arg(long, value_name = "FILE", required_unless_present = "data")]
    pub config: Option<PathBuf>,
    /// In this folder, which no daemon holds meanwhile.
    #[arg(long, value_name = "DIR")]
    pub data: Option<PathBuf>,
}

/// Which dead letters.
#[derive(Debug, Default, Args)]
pub struct DeadLetterFilter {
    /// Only those with this reason, such as malformed or other_shop; can be given several times.
    #[arg(long = "reason", value_name = "REASON")]
    pub reasons: Vec<String>,
    /// Only those of this last time, such as 1h.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub since: Option<Duration>,
}

/// How files that are no JSON lines are read.
#[derive(Debug, Args)]
pub struct Csv {
    /// The files are CSV: what they hold ("orders" is what there is), and the mapping that says
    /// what their columns mean.
    #[arg(long = "csv", num_args = 2, value_names = ["WHAT", "MAPPING"])]
    pub what_and_mapping: Option<Vec<String>>,
}

impl Csv {
    /// The mapping's file, where files are CSV.
    ///
    /// # Errors
    /// When they hold something that cannot be read from CSV.
    pub fn mapping(&self) -> Result<Option<PathBuf>, UsageError> {
        match self.what_and_mapping.as_deref() {
            None => Ok(None),
            Some([what, mapping]) if what == "orders" => Ok(Some(PathBuf::from(mapping))),
            Some(given) => Err(UsageError(format!(
                "--csv {}: expected \"orders\" and a mapping",
                given.join(" ")
            ))),
        }
    }
}

/// A command line that clap lets pass and that is wrong all the same.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct UsageError(pub String);

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportForm {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// The longest time that an argument can say.
const SPAN_MAX: Duration = Duration::from_secs(366 * 24 * 3_600);

fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(time) if time >= Duration::from_millis(1) && time <= SPAN_MAX => Ok(time),
        Ok(_) => Err("expected from 1ms to 366days".to_owned()),
        Err(error) => Err(format!("{error}; expected a time such as 90s, 5m or 1h30m")),
    }
}

fn speed(text: &str) -> Result<f64, String> {
    let speed = text.parse::<f64>().ok();
    speed
        .filter(|speed| (0.01..=100_000.0).contains(speed))
        .ok_or_else(|| "expected a number from 0.01 to 100000".to_owned())
}

fn instant_ms(text: &str) -> Result<i64, String> {
    let instant = text.parse::<jiff::Timestamp>();
    instant
        .map(jiff::Timestamp::as_millisecond)
        .map_err(|_| "expected an instant such as 2026-11-12T00:00:00+08:00".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Command, clap::Error> {
        Cli::try_parse_from(line.split_whitespace()).map(|cli| cli.command)
    }

    #[test]
    fn the_definition_holds() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }

    #[test]
    fn csv_takes_what_and_mapping_and_leaves_the_files() {
        let Ok(Command::Load(load)) = parse("fenghuo load --csv orders map.toml a.csv b.csv")
        else {
            panic!("expected load");
        };
        assert_eq!(load.files, [PathBuf::from("a.csv"), PathBuf::from("b.csv")]);
        assert_eq!(load.csv.mapping().unwrap(), Some(PathBuf::from("map.toml")));
        let Ok(Command::Replay(replay)) = parse("fenghuo replay a --csv visits map.toml") else {
            panic!("expected replay");
        };
        assert!(replay.csv.mapping().is_err());
    }

    #[test]
    fn defaults_are_those_of_the_help() {
        let Ok(Command::Demo(demo)) = parse("fenghuo demo") else {
            panic!("expected demo");
        };
        assert_eq!(demo.span, Duration::from_secs(60));
        assert_eq!(demo.listen, SocketAddr::from(([127, 0, 0, 1], 8686)));
        let Ok(Command::Load(load)) = parse("fenghuo load a --bootstrap a:1,b:2") else {
            panic!("expected load");
        };
        assert_eq!(load.bootstrap, ["a:1", "b:2"]);
        assert_eq!(load.topic_prefix, "shop.");
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for line in [
            "fenghuo",
            "fenghuo load",
            "fenghuo demo --for 0s",
            "fenghuo demo --for soon",
            "fenghuo demo --speed 0",
            "fenghuo demo --speed NaN",
            "fenghuo demo --listen 8686",
            "fenghuo load a --config c --bootstrap b:1",
            "fenghuo replay a --until yesterday",
            "fenghuo replay a --every 1h",
            "fenghuo signals --json --rules",
            "fenghuo dead-letter",
            "fenghuo dead-letter list",
            "fenghuo dead-letter list --config c --limit 0",
            "fenghuo dead-letter replay --config c --since ever",
        ] {
            assert!(parse(line).is_err(), "{line}");
        }
    }
}
