//! `fenghuo check`: says whether a config holds, and what it amounts to.
//!
//! It must never bind or connect: it runs where a config is written, not where it is used. A secret
//! that is there is read as a run reads it, so that a malformed one is found, and is never shown; one
//! that is not there is a warning.

use std::collections::BTreeMap;
use std::fmt::{self, Write as _};

use fenghuo_signal::Kind;

use crate::cli;
use crate::config::{Config, Log};
use crate::exit::Exit;

/// Checks a config and prints what it holds; a mistake in it is the error.
pub fn run(args: &cli::Check) -> anyhow::Result<Exit> {
    let mut config = Config::load(&args.config)?;
    config.warnings.extend(config.check_secrets()?);
    let mut text = format!("{} holds:\n", args.config.display());
    describe(&config, &mut text)?;
    Ok(crate::signals::print(&crate::for_terminal(&text)))
}

/// Lines with values from the config in them: a line feed in a value begins no line.
struct Lines<'a>(&'a mut String);

impl fmt::Write for Lines<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.write_str(text)
    }

    fn write_fmt(&mut self, line: fmt::Arguments<'_>) -> fmt::Result {
        let line = line.to_string();
        let line = line.strip_suffix('\n').unwrap_or(&line);
        self.0.push_str(&fenghuo_signal::shown(line, usize::MAX));
        self.0.push('\n');
        Ok(())
    }
}

fn describe(config: &Config, out: &mut String) -> fmt::Result {
    let out = &mut Lines(out);
    let shop = &config.shop;
    let minutes = shop.utc_offset_min.abs();
    let sign = if shop.utc_offset_min < 0 { '-' } else { '+' };
    writeln!(
        out,
        "  shop      {}, prices in {}, local time {sign}{:02}:{:02}",
        shop.id.as_deref().unwrap_or("any"),
        shop.currency.as_deref().unwrap_or("any currency"),
        minutes / 60,
        minutes % 60
    )?;
    let sources = &config.topics.sources;
    let names: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
    match &config.log {
        Log::Kafka => {
            let brokers = config.kafka.connection.bootstrap.join(", ");
            writeln!(out, "  kafka     {brokers}")?;
        }
        Log::Embedded(folder) => writeln!(out, "  folder    {}", folder.path.display())?,
    }
    writeln!(out, "  topics    {}: {}", names.len(), names.join(", "))?;
    if let Some(intake) = &config.watched {
        let mappings = intake.settings.mappings.iter();
        let mappings: Vec<String> = mappings
            .map(|mapping| format!("{} by {}", mapping.kind.name(), mapping.file))
            .collect();
        let folder = intake.folder.display();
        writeln!(out, "  watches   {folder}: {}", mappings.join(", "))?;
    }
    writeln!(out, "  rules     {}", config.rules.len())?;
    let own = config.catalogue.measures().iter();
    let own = own.filter(|measure| measure.is_own);
    let kinds = own.flat_map(|measure| measure.kinds.iter());
    let kinds: BTreeMap<&str, Kind> = kinds.map(|kind| (kind.name(), *kind)).collect();
    for (name, kind) in kinds {
        let (places, max) = (config.catalogue.places(kind), config.evaluate.entities_max);
        if places > 1 {
            writeln!(
                out,
                "  memory    an entity of kind {name} takes {places} of the {max} places of a panes partition"
            )?;
        }
    }
    let plans = &config.plans;
    let (campaigns, skus) = (plans.campaigns.len(), plans.skus.len());
    writeln!(out, "  plans     {campaigns} campaigns, {skus} skus")?;
    let names = config.channels.iter().map(|channel| channel.name.as_str());
    let names: Vec<&str> = names.collect();
    writeln!(out, "  channels  {}: {}", names.len(), names.join(", "))?;
    writeln!(out, "  routes    {}", config.routes.0.len())?;
    let token = match (&config.http.token, config.http.metrics_open) {
        (None, _) => "for this machine alone",
        (Some(_), false) => "with a token",
        (Some(_), true) => "with a token, metrics without",
    };
    writeln!(out, "  listens   {}, {token}", config.http.listen)?;
    for warning in &config.warnings {
        writeln!(out, "warning: {warning}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watched_folder_is_named_with_what_it_holds() {
        let deploy = concat!(env!("CARGO_MANIFEST_DIR"), "/../../deploy/");
        let text = "intake = { watch = \"in\", mappings = [\"mappings/stock-list.toml\"] }";
        let config = Config::parse(&format!("{deploy}fenghuo.toml"), text).unwrap();
        let mut out = String::new();
        describe(&config, &mut out).unwrap();
        let line = out
            .lines()
            .find(|line| line.starts_with("  watches "))
            .unwrap();
        assert_eq!(
            line.replace(deploy, ""),
            "  watches   in: inventory by mappings/stock-list.toml"
        );
    }

    #[test]
    fn a_line_feed_in_a_value_begins_no_line() {
        let text = "shop.id = \"a\\nall is well\\u001b[0m\"";
        let mut out = String::new();
        describe(&Config::parse("fenghuo.toml", text).unwrap(), &mut out).unwrap();
        let first = out.lines().next().unwrap();
        assert!(first.contains(r"a\u{a}all is well\u{1b}[0m,"), "{out}");
    }

    #[test]
    fn what_holds_is_counted() {
        let text = r#"
            shop = { id = "42", time_zone = "-03:30" }
            topics.streams = ["orders", "catalog"]
            http.listen = "[::1]:9000"
            route = [{ severity = ["page"], channels = ["terminal"] }]
            channel = [{ name = "terminal", type = "log" }, { name = "spare", type = "log" }]
        "#;
        let mut out = String::new();
        describe(&Config::parse("fenghuo.toml", text).unwrap(), &mut out).unwrap();
        insta::assert_snapshot!(out, @r#"
          shop      42, prices in CNY, local time -03:30
          kafka     localhost:9092
          topics    2: shop.orders, shop.catalog
          rules     11
          plans     0 campaigns, 0 skus
          channels  2: terminal, spare
          routes    1
          listens   [::1]:9000, for this machine alone
        warning: no route takes every alert: what matches none is on the screen only
        warning: no route names the channel "spare"
        "#);
    }
}
