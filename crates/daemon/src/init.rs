//! `fenghuo init`: the files that an installation begins with, annotated.
//!
//! They are the ones of `deploy/`, so that what is read there and what is written here cannot
//! differ. It must never overwrite a file.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use crate::cli;
use crate::exit::Exit;

/// Name, text, and what it is for.
const FILES: [(&str, &str, &str); 5] = [
    (
        "fenghuo.toml",
        include_str!("../../../deploy/fenghuo.toml"),
        "every setting, with its default",
    ),
    (
        "plans/example.toml",
        include_str!("../../../deploy/plans/example.toml"),
        "campaigns and skus",
    ),
    (
        "mappings/order-list.toml",
        include_str!("../../../deploy/mappings/order-list.toml"),
        "how an exported order list is read",
    ),
    (
        "mappings/stock-list.toml",
        include_str!("../../../deploy/mappings/stock-list.toml"),
        "how an exported stock list is read",
    ),
    (
        "mappings/parcel-list.toml",
        include_str!("../../../deploy/mappings/parcel-list.toml"),
        "how an exported parcel list is read",
    ),
];

/// Writes the files that are missing.
pub fn run(args: &cli::Init) -> anyhow::Result<Exit> {
    let mut out = std::io::stdout().lock();
    for (name, text, about) in FILES {
        let path = args.folder.join(name);
        let said = match write(&path, &text_of(name, text))? {
            true => "written",
            false => "is there already",
        };
        writeln!(out, "{:<28} {about}: {said}", path.display().to_string())?;
    }
    let config = args.folder.join("fenghuo.toml");
    writeln!(out, "\nnow: fenghuo run --config {}", config.display())?;
    Ok(Exit::Done)
}

/// The text as it is written: whoever begins has no Kafka.
fn text_of(name: &str, text: &str) -> String {
    match name {
        "fenghuo.toml" => text.replacen("kind = \"kafka\"", "kind = \"embedded\"", 1),
        _ => text.to_owned(),
    }
}

/// Whether the file was written; one that is there stays as it is.
fn write(path: &Path, text: &str) -> anyhow::Result<bool> {
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("{} cannot be made", folder.display()))?;
    }
    match std::fs::File::create_new(path) {
        Ok(mut file) => file
            .write_all(text.as_bytes())
            .map(|()| true)
            .with_context(|| format!("{} cannot be written", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error).with_context(|| format!("{} cannot be written", path.display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, Log};

    #[test]
    fn what_is_written_holds_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let args = cli::Init {
            folder: folder.path().to_owned(),
        };
        run(&args).unwrap();
        let path = folder.path().join("fenghuo.toml");
        let config = Config::load(&path).unwrap();
        assert!(matches!(config.log, Log::Embedded(_)), "{:?}", config.log);
        for (name, ..) in FILES {
            assert!(folder.path().join(name).is_file(), "{name}");
        }
        std::fs::write(&path, "shop.id = \"42\"").unwrap();
        run(&args).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "shop.id = \"42\"");
    }
}
