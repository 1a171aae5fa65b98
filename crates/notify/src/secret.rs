//! Secrets: where they come from, and that nobody prints them.

use std::fmt;
use std::path::{Path, PathBuf};

use crate::repeats::repeats;

/// What is told in the place of a text that repeats a secret.
const REPEATS: &str = "[the answer repeats a secret]";

/// Bytes of a secret's file that are read at most; keys and URLs are far shorter.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// A key, token or secret URL. Neither `Debug` nor `Display` shows it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for the request that needs it, and for nothing else.
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text`, or in its place that it repeats the secret: whole or a part of it, as it is or encoded.
    pub fn redact(&self, text: String) -> String {
        match repeats(&self.0, &text) {
            true => REPEATS.to_owned(),
            false => text,
        }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

/// Where a secret is found. The config never contains one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The trimmed content of a file.
    File(PathBuf),
    /// An environment variable.
    Env(String),
    /// Given by a program that embeds the notifier, or by a test.
    Given(Secret),
}

impl SecretSource {
    /// Why it cannot be looked at here: it is missing, or kept from who asks. A config is checked where
    /// it is written, too.
    #[allow(
        clippy::disallowed_methods,
        reason = "a secret that the config says is in the environment"
    )]
    pub fn absence(&self) -> Option<String> {
        match self {
            SecretSource::File(path) => {
                let error = match std::fs::metadata(path) {
                    // Opening a pipe to which nobody writes would wait for ever.
                    Ok(of) if !of.is_file() => return None,
                    Ok(_) => std::fs::File::open(path).err()?,
                    Err(error) => error,
                };
                match error.kind() {
                    std::io::ErrorKind::NotFound => Some(format!("{self} is not here")),
                    std::io::ErrorKind::PermissionDenied => {
                        Some(format!("{self} may not be read by who checks"))
                    }
                    _ => None,
                }
            }
            SecretSource::Env(name) if std::env::var_os(name).is_none() => {
                Some(format!("{self} is not set here"))
            }
            SecretSource::Env(_) | SecretSource::Given(_) => None,
        }
    }

    /// Reads the secret. The error says where it was looked for, never what was found.
    pub fn read(&self) -> Result<Secret, String> {
        let text = match self {
            SecretSource::File(path) => read_file(path)?,
            SecretSource::Env(name) => read_env(name)?,
            SecretSource::Given(secret) => return Ok(secret.clone()),
        };
        let text = text.trim();
        if text.is_empty() {
            return Err(format!("{self} is empty"));
        }
        Ok(Secret::new(text))
    }

    /// As [`SecretSource::read`], for what is one line by its nature: a token, a password, an address.
    /// With a line break in it, or a character that nobody sees, it would be taken and never match.
    pub fn read_line(&self) -> Result<Secret, String> {
        let secret = self.read()?;
        let text = secret.expose();
        let lines = text.lines().count();
        if lines > 1 {
            return Err(format!(
                "{self} has {lines} lines; expected one line, the secret alone"
            ));
        }
        let is_unseen =
            |c: char| c.is_control() || matches!(c, '\u{200b}'..='\u{200f}' | '\u{feff}');
        if text.contains(is_unseen) {
            return Err(format!(
                "{self} has a control character in it, or another that cannot be seen; expected one \
                 line, the secret alone"
            ));
        }
        Ok(secret)
    }
}

/// Whether a text stands where a secret is to be put: what examples, comments and templates say.
pub fn is_placeholder(text: &str) -> bool {
    const WITHIN: [&str; 9] = [
        "changeme",
        "placeholder",
        "replaceme",
        "replacethis",
        "yourkey",
        "yoursecret",
        "yourtoken",
        "yourrouting",
        "yourpassword",
    ];
    const WHOLE: [&str; 9] = [
        "changeit", "fixme", "none", "null", "password", "secret", "tbd", "todo", "token",
    ];
    // An address of an example: the whole of it, or one of its parts.
    if let Ok(url) = url::Url::parse(text)
        && url.has_host()
    {
        let host = url.host_str().unwrap_or_default();
        let of_example = host.ends_with(".example")
            || ["example.com", "example.org", "example.net"]
                .iter()
                .any(|example| host == *example || host.ends_with(&format!(".{example}")));
        let mut parts = url.path().split('/').filter(|part| !part.is_empty());
        return of_example || parts.any(is_placeholder);
    }
    let text = text.trim();
    let text = text.strip_prefix("Bearer ").unwrap_or(text);
    let text = text.strip_prefix("whsec_").unwrap_or(text);
    let plain: String = text
        .chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|c| c.to_ascii_lowercase())
        .collect();
    let mut chars = text.chars();
    let first = chars.next();
    let is_one_char = text.chars().count() > 2 && chars.all(|c| Some(c) == first);
    let is_elided = text.contains('…') || text.contains("...");
    let is_bracketed = text.starts_with('<') && text.ends_with('>');
    is_one_char
        || is_elided
        || is_bracketed
        || WHOLE.contains(&plain.as_str())
        || text.to_ascii_lowercase().starts_with("todo:")
        || WITHIN.iter().any(|word| plain.contains(word))
}

impl fmt::Display for SecretSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            SecretSource::File(path) => write!(f, "file {}", path.display()),
            SecretSource::Env(name) => write!(f, "environment variable {name}"),
            SecretSource::Given(_) => f.write_str("given secret"),
        }
    }
}

fn read_file(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let fail = |error: std::io::Error| format!("cannot read file {}: {error}", path.display());
    let mut text = String::new();
    // Opening a pipe to which nobody writes would wait for ever.
    if !std::fs::metadata(path).map_err(fail)?.is_file() {
        return Err(fail(std::io::Error::other("it is no regular file")));
    }
    let file = std::fs::File::open(path).map_err(fail)?;
    file.take(FILE_BYTES_MAX + 1)
        .read_to_string(&mut text)
        .map_err(fail)?;
    if text.len() as u64 > FILE_BYTES_MAX {
        return Err(format!(
            "file {} is larger than {FILE_BYTES_MAX} bytes",
            path.display()
        ));
    }
    Ok(text)
}

#[allow(
    clippy::disallowed_methods,
    reason = "a secret that the config says is in the environment"
)]
fn read_env(name: &str) -> Result<String, String> {
    std::env::var(name).map_err(|_| format!("environment variable {name} is not set to text"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_never_shown() {
        let secret = Secret::new("whsec_very_secret");
        let source = SecretSource::Given(secret.clone());
        for shown in [
            format!("{secret}"),
            format!("{secret:?}"),
            format!("{source:?} {source}"),
        ] {
            assert!(!shown.contains("very_secret"), "{shown}");
        }
        let told = secret.redact("400: bad key whsec_very_secret!".to_owned());
        assert_eq!(told, REPEATS);
    }

    #[test]
    fn a_secret_address_is_blotted_out_in_every_form() {
        let address = "https://user:hunter2hunter2@hooks.example/services/T0123456/Xy%2FzAbCdEf?token=abcdef123456";
        let secret = Secret::new(address);
        for quoted in [
            address.to_owned(),
            "POST /services/T0123456/Xy%2FzAbCdEf?token=abcdef123456".to_owned(),
            "no hook Xy%2FzAbCdEf".to_owned(),
            "no hook Xy/zAbCdEf".to_owned(),
            r#"{"path":"\/services\/T0123456\/Xy%2FzAbCdEf"}"#.to_owned(),
            "bad token abcdef123456".to_owned(),
            "user hunter2hunter2".to_owned(),
        ] {
            let told = secret.redact(quoted.clone());
            for part in ["T0123456", "zAbCdEf", "abcdef123456", "hunter2hunter2"] {
                assert!(!told.contains(part), "{quoted} became {told}");
            }
            assert_eq!(told, REPEATS, "{quoted}");
        }
        let innocent = "status 404: no such hook at hooks.example";
        assert_eq!(secret.redact(innocent.to_owned()), innocent);
    }

    #[test]
    fn what_examples_say_is_no_secret() {
        for text in [
            "change-me",
            "CHANGE_ME_PLEASE",
            "xxx",
            "XXXXXXXXXXXXXXXX",
            "TODO",
            "todo: ask ops",
            "whsec_…",
            "whsec_xxxxxxxx",
            "<your token>",
            "your-routing-key",
            "Bearer change-me",
            "secret",
            "https://hooks.slack.com/services/T00000000/B00000000/XXXXXXXXXXXXXXXXXXXXXXXX",
            "https://hooks.slack.com/services/change-me",
            "https://incidents.example/fenghuo",
            "https://hooks.example.com/a",
        ] {
            assert!(is_placeholder(text), "{text}");
        }
        for text in [
            "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
            "0123456789abcdef0123456789abcdef",
            "https://hooks.slack.com/services/T024F7Q1A/B06AB2KQ9/Xm4tO1do5xxxQ9",
            "http://127.0.0.1:4000/hook",
            "Bearer 8b1c7f0e5d",
            "R0UTINGKEY",
        ] {
            assert!(!is_placeholder(text), "{text}");
        }
    }

    #[test]
    fn what_is_one_line_by_its_nature_is_one_line() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        for (text, told) in [
            ("0123456789abcdef\nfedcba9876543210\n", "has 2 lines"),
            ("0123456789abcdef\r\n\r\nfedcba\n", "has 3 lines"),
            ("0123456789\0abcdef", "a control character"),
            ("0123456789\tabcdef", "a control character"),
            ("0123456789\rabcdef", "a control character"),
            ("\u{feff}0123456789abcdef\n", "cannot be seen"),
        ] {
            std::fs::write(&path, text).unwrap();
            let error = SecretSource::File(path.clone()).read_line().unwrap_err();
            assert!(
                error.contains(told) && !error.contains("0123") && !error.contains("fedc"),
                "{error}"
            );
        }
        for text in ["a secret", "a secret\n", " a secret\r\n", "a secret\n\n"] {
            std::fs::write(&path, text).unwrap();
            let secret = SecretSource::File(path.clone()).read_line().unwrap();
            assert_eq!(secret.expose(), "a secret");
        }
    }

    #[test]
    fn what_is_no_file_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let error = SecretSource::File(folder.path().to_owned())
            .read()
            .unwrap_err();
        assert!(error.contains("no regular file"), "{error}");
    }

    #[test]
    fn a_missing_secret_says_where_it_was_looked_for() {
        let error = SecretSource::File("/nowhere/key".into())
            .read()
            .unwrap_err();
        assert!(error.contains("/nowhere/key"), "{error}");
        let error = SecretSource::Env("FENGHUO_TEST_UNSET".to_owned())
            .read()
            .unwrap_err();
        assert!(error.contains("FENGHUO_TEST_UNSET"), "{error}");
    }
}
