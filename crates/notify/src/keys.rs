//! Reading one TOML table key by key, with errors that a person can act on.
//!
//! Every error names the file, the channel and the key, and what was expected. The value itself is
//! shown only where it cannot be a secret.

use std::path::{Path, PathBuf};
use std::time::Duration;

use toml::{Table, Value};
use url::Url;

use crate::secret::SecretSource;

/// A setting that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{file}: {at}: {problem}")]
pub struct ConfigError {
    /// The file that holds the setting, as it was named.
    pub file: String,
    /// The channel, and the key where there is one.
    pub at: String,
    /// What is wrong, what was expected.
    pub problem: String,
    /// Where it is about a channel's table: the number of that table, from 0, and the key in it,
    /// empty where it is about no single one.
    pub place: Option<(usize, String)>,
}

/// A table being read. Keys that nobody asked for are errors in [`Keys::finish`].
pub(crate) struct Keys<'a> {
    file: &'a str,
    at: String,
    index: usize,
    table: &'a Table,
    known: Vec<String>,
}

impl<'a> Keys<'a> {
    /// The table of this number, from 0, which is told from 1 until it has a name.
    pub(crate) fn new(file: &'a str, index: usize, table: &'a Table) -> Self {
        Self {
            file,
            at: format!("channel {}", index + 1),
            index,
            table,
            known: Vec::new(),
        }
    }

    pub(crate) fn file(&self) -> &'a str {
        self.file
    }

    /// Errors from here on name this place.
    pub(crate) fn rename(&mut self, at: String) {
        self.at = at;
    }

    pub(crate) fn error(&self, key: &str, problem: impl Into<String>) -> ConfigError {
        let at = if key.is_empty() {
            self.at.clone()
        } else {
            format!("{}: {key}", self.at)
        };
        ConfigError {
            file: self.file.to_owned(),
            at,
            problem: problem.into(),
            place: Some((self.index, key.to_owned())),
        }
    }

    fn get(&mut self, key: &str) -> Option<&'a Value> {
        self.known.push(key.to_owned());
        self.table.get(key)
    }

    pub(crate) fn text(&mut self, key: &str) -> Result<Option<&'a str>, ConfigError> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.expected(key, "text in quotes", other)),
        }
    }

    pub(crate) fn required(&mut self, key: &str, form: &str) -> Result<&'a str, ConfigError> {
        self.text(key)?
            .ok_or_else(|| self.error(key, format!("is missing; expected {form}")))
    }

    pub(crate) fn flag(&mut self, key: &str) -> Result<bool, ConfigError> {
        match self.get(key) {
            None => Ok(false),
            Some(Value::Boolean(flag)) => Ok(*flag),
            Some(other) => Err(self.expected(key, "true or false", other)),
        }
    }

    /// A whole number from 1 to `max`.
    pub(crate) fn count(&mut self, key: &str, default: u32, max: u32) -> Result<u32, ConfigError> {
        let form = format!("a whole number from 1 to {max}");
        match self.get(key) {
            None => Ok(default),
            Some(Value::Integer(number)) => u32::try_from(*number)
                .ok()
                .filter(|number| (1..=max).contains(number))
                .ok_or_else(|| self.error(key, format!("{number} is no {}", &form[2..]))),
            Some(other) => Err(self.expected(key, &form, other)),
        }
    }

    /// A time such as `"5s"` or `"1m 30s"`, more than nothing and at most `max`.
    pub(crate) fn duration(
        &mut self,
        key: &str,
        default: Duration,
        max: Duration,
    ) -> Result<Duration, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(default);
        };
        match humantime::parse_duration(text) {
            Ok(time) if time > Duration::ZERO && time <= max => Ok(time),
            Ok(_) => Err(self.error(
                key,
                format!(
                    "{text:?} is out of range; expected more than 0s and at most {}",
                    humantime::format_duration(max)
                ),
            )),
            Err(_) => Err(self.error(
                key,
                format!("{text:?} is no time; expected one like \"5s\" or \"1m 30s\""),
            )),
        }
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        key: &str,
        choices: &[(&str, T)],
    ) -> Result<Option<T>, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        if let Some((_, choice)) = choices.iter().find(|(name, _)| *name == text) {
            return Ok(Some(*choice));
        }
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        let nearest = did_you_mean(text, names.iter().copied());
        Err(self.error(
            key,
            format!(
                "{text:?} is unknown{nearest}; expected one of {}",
                names.join(", ")
            ),
        ))
    }

    /// An address that is no secret.
    pub(crate) fn url(&mut self, key: &str) -> Result<Option<Url>, ConfigError> {
        let Some(text) = self.text(key)? else {
            return Ok(None);
        };
        parse_url(text)
            .map(Some)
            .map_err(|problem| self.error(key, problem))
    }

    /// A list of one or more addresses that are no secrets.
    pub(crate) fn urls(&mut self, key: &str, max: usize) -> Result<Vec<Url>, ConfigError> {
        const FORM: &str = "a list of addresses such as [\"http://alertmanager:9093\"]";
        let list = match self.get(key) {
            Some(Value::Array(list)) if !list.is_empty() && list.len() <= max => list,
            Some(Value::Array(list)) => {
                let problem = format!("has {} addresses; expected 1 to {max}", list.len());
                return Err(self.error(key, problem));
            }
            Some(other) => return Err(self.expected(key, FORM, other)),
            None => return Err(self.error(key, format!("is missing; expected {FORM}"))),
        };
        list.iter()
            .map(|value| match value {
                Value::String(text) => parse_url(text).map_err(|problem| self.error(key, problem)),
                other => Err(self.expected(key, FORM, other)),
            })
            .collect()
    }

    /// Where a secret is, from `<key>_file` or `<key>_env`. A file is looked for beside the config.
    /// The secret itself in the config is an error, which does not repeat it.
    pub(crate) fn secret(&mut self, key: &str) -> Result<Option<SecretSource>, ConfigError> {
        let (file_key, env_key) = (format!("{key}_file"), format!("{key}_env"));
        let file = self.text(&file_key)?;
        let env = self.text(&env_key)?;
        match (file, env) {
            (Some(_), Some(_)) => Err(self.error(
                &file_key,
                format!("both {file_key} and {env_key} are set; expected one"),
            )),
            (Some(path), None) => {
                let beside = Path::new(self.file)
                    .parent()
                    .map_or_else(PathBuf::new, Path::to_owned);
                Ok(Some(SecretSource::File(beside.join(path))))
            }
            (None, Some(name)) => Ok(Some(SecretSource::Env(name.to_owned()))),
            (None, None)
                if self.table.contains_key(key) && !self.known.iter().any(|k| k == key) =>
            {
                Err(self.error(
                    key,
                    format!(
                        "a secret does not belong into the config; use {file_key} or {env_key}"
                    ),
                ))
            }
            (None, None) => Ok(None),
        }
    }

    pub(crate) fn required_secret(&mut self, key: &str) -> Result<SecretSource, ConfigError> {
        self.secret(key)?.ok_or_else(|| ConfigError {
            place: Some((self.index, format!("{key}_file"))),
            ..self.error(
                "",
                format!("has no {key}; expected {key}_file = \"path\" or {key}_env = \"NAME\""),
            )
        })
    }

    /// Refuses keys that nobody asked for.
    pub(crate) fn finish(self) -> Result<(), ConfigError> {
        let unknown = self.table.keys().find(|key| !self.known.contains(*key));
        let Some(key) = unknown else { return Ok(()) };
        let nearest = did_you_mean(key, self.known.iter().map(String::as_str));
        let known = self.known.join(", ");
        Err(self.error(
            key,
            format!("unknown key{nearest}; this type knows {known}"),
        ))
    }

    fn expected(&self, key: &str, form: &str, found: &Value) -> ConfigError {
        self.error(
            key,
            format!("is of type {}; expected {form}", found.type_str()),
        )
    }
}

/// `; did you mean "x"?`, or nothing where no name is near.
pub(crate) fn did_you_mean<'a>(text: &str, names: impl Iterator<Item = &'a str>) -> String {
    names
        .map(|name| (strsim::damerau_levenshtein(text, name), name))
        .filter(|(distance, name)| *distance <= 3 && *distance < name.len().max(2) - 1)
        .min()
        .map_or_else(String::new, |(_, name)| format!("; did you mean {name:?}?"))
}

/// An `http` or `https` address with a host and no password. The problem does not repeat the text.
pub(crate) fn parse_url(text: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("is no address: {error}"))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err("is no http or https address".to_owned());
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "holds a name or password; use authorization_file or authorization_env".to_owned(),
        );
    }
    Ok(url)
}
