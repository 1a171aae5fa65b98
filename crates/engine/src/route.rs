//! Routes: which channels are told of an alert.

use std::collections::BTreeMap;

use fenghuo_alert::{Severity, Transition};
use serde::Deserialize;

/// One route. An alert takes the first route that it matches.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Route {
    /// Severities; none = any.
    #[serde(default)]
    pub severity: Vec<Severity>,
    /// Names of signals, `*` stands for anything; none = any.
    #[serde(default)]
    pub signal: Vec<String>,
    /// Names of parts of the entity (`sku`, `courier` …) and what they must be, `*` stands for
    /// anything.
    #[serde(default)]
    pub entity: BTreeMap<String, String>,
    /// Labels of the rule and what they must be, `*` stands for anything.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Channels that are told, all of them.
    pub channels: Vec<String>,
    /// Channels to fall over to, in order, where one of them could not deliver.
    #[serde(default)]
    pub fallback: Vec<String>,
}

/// All routes, in order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Routes(pub Vec<Route>);

impl Routes {
    /// The first route that the alert matches.
    pub fn route(&self, alert: &Transition) -> Option<&Route> {
        self.0.iter().find(|route| route.matches(alert))
    }
}

impl Route {
    fn matches(&self, alert: &Transition) -> bool {
        (self.severity.is_empty() || self.severity.contains(&alert.severity))
            && (self.signal.is_empty()
                || self.signal.iter().any(|glob| is_like(&alert.signal, glob)))
            && self.entity.iter().all(|(part, glob)| {
                alert
                    .entity
                    .part(part)
                    .is_some_and(|name| is_like(name, glob))
            })
            && self.labels.iter().all(|(label, glob)| {
                alert
                    .labels
                    .get(label)
                    .is_some_and(|text| is_like(text, glob))
            })
    }
}

/// Whether `text` has the form of `glob`, in which `*` stands for anything.
fn is_like(text: &str, glob: &str) -> bool {
    let mut parts = glob.split('*');
    let Some(rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let mut rest = rest;
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use super::is_like;

    #[test]
    fn a_star_stands_for_anything() {
        for (text, glob, like) in [
            ("sales.pace", "sales.*", true),
            ("sales.pace", "*", true),
            ("sales.pace", "sales.pace", true),
            ("sales.pace", "sales", false),
            ("sales.pace", "*pace", true),
            ("sales.pace", "s*s.p*e", true),
            ("sales.pace", "s*x*e", false),
            ("aa", "a*a*a", false),
        ] {
            assert_eq!(is_like(text, glob), like, "{text} ~ {glob}");
        }
    }
}
