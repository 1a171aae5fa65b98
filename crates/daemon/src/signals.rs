//! `fenghuo signals`: the catalogue and the built-in rules, for people and programs.

use std::io::{self, Write as _};

use fenghuo_alert::Rules;
use fenghuo_signal::Catalogue;
use serde_json::{Value, json};

use crate::cli;
use crate::config::Config;
use crate::exit::Exit;

/// Prints the signals or the rules.
pub fn run(args: &cli::Signals) -> anyhow::Result<Exit> {
    let catalogue = match &args.config {
        Some(path) => Config::load(path)?.catalogue,
        None => Catalogue::built_in(),
    };
    Ok(if args.rules {
        print(&Rules::builtin_text())
    } else if args.json {
        print(&format!("{:#}\n", as_json(&catalogue)))
    } else {
        print(&as_table(&catalogue))
    })
}

/// Writes to standard output. Whoever stops reading has had enough: that is no failure.
pub fn print(text: &str) -> Exit {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Exit::Done,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
        Err(error) => {
            eprintln!("error: cannot write to standard output: {error}");
            Exit::Failed
        }
    }
}

fn as_json(catalogue: &Catalogue) -> Value {
    let signals = catalogue.signals().iter().map(|signal| {
        let kinds: Vec<&str> = signal.kinds.iter().map(|kind| kind.name()).collect();
        let streams: Vec<&str> = signal.streams.iter().map(|stream| stream.topic()).collect();
        json!({
            "name": &*signal.name,
            "unit": signal.unit,
            "about": signal.about,
            "formula": signal.formula,
            "kinds": kinds,
            "streams": streams,
            "own": signal.is_own,
        })
    });
    signals.collect()
}

fn as_table(catalogue: &Catalogue) -> String {
    let mut rows = vec![["SIGNAL", "UNIT", "OF", "TELLS"].map(str::to_owned)];
    for signal in catalogue.signals() {
        let kinds: Vec<&str> = signal.kinds.iter().map(|kind| kind.name()).collect();
        rows.push([
            signal.name.to_string(),
            signal.unit.to_string(),
            kinds.join(" "),
            signal.about.to_string(),
        ]);
    }
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max();
    let widths = [0, 1, 2].map(|column| width(column).unwrap_or(0));
    let mut table = String::new();
    for [name, unit, kinds, about] in &rows {
        let [a, b, c] = widths;
        table += &format!("{name:a$}  {unit:b$}  {kinds:c$}  {about}\n");
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signal_is_told() {
        let table = as_table(&Catalogue::built_in());
        let json = as_json(&Catalogue::built_in());
        assert_eq!(
            table.lines().count(),
            1 + Catalogue::built_in().signals().len()
        );
        for (index, name) in Catalogue::built_in().signal_names().into_iter().enumerate() {
            assert!(table.contains(&format!("\n{name} ")), "{name}");
            assert_eq!(json[index]["name"], name);
        }
    }
}
