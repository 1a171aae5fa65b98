//! Secrets: where they come from, and that nobody prints them.

use std::fmt;
use std::path::{Path, PathBuf};

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

    /// `text` with every occurrence of the secret blotted out.
    pub(crate) fn redact(&self, text: String) -> String {
        // A shorter one would blot out innocent text; real secrets are longer.
        const LENGTH_MIN: usize = 6;
        if self.0.len() >= LENGTH_MIN && text.contains(&self.0) {
            text.replace(&self.0, "[redacted]")
        } else {
            text
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
        assert_eq!(told, "400: bad key [redacted]!");
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
