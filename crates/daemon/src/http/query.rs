//! Questions: the parameters of the API, checked before anything is looked up.

use std::cmp::Reverse;

use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequestParts, Query};
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use fenghuo_alert::Severity;
use fenghuo_engine::view::{AlertPlace, EpisodePlace};
use std::sync::Arc;

use fenghuo_signal::{Catalogue, Entity, Kind};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::shape::failure;

/// Rows of one answer.
pub(super) const LIMIT_MAX: usize = 10_000;

/// Bytes of the cursor or entity in a question.
const TEXT_BYTES_MAX: usize = 2_048;

/// The parameters of a route; an unknown or malformed one is told.
pub(super) struct Ask<T>(pub(super) T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Ask<T> {
    type Rejection = Response;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Response> {
        let found: Result<Query<T>, QueryRejection> = Query::from_request_parts(parts, state).await;
        match found {
            Ok(Query(asked)) => Ok(Self(asked)),
            Err(rejected) => Err(failure(
                StatusCode::BAD_REQUEST,
                &format!("the question cannot be read: {}", rejected.body_text()),
            )),
        }
    }
}

/// Parameters of `/api/v1/readings`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReadingsAsk {
    signal: Option<String>,
    entity: Option<String>,
    kind: Option<String>,
    #[serde(default = "thousand")]
    limit: usize,
    after: Option<String>,
}

/// Which readings are asked for.
#[derive(Debug)]
pub(super) struct ReadingsWanted {
    pub(super) signal: Option<Arc<str>>,
    pub(super) entity: Option<Entity>,
    pub(super) kind: Option<Kind>,
    pub(super) limit: usize,
    /// The last one of the page before.
    pub(super) after: Option<(Arc<str>, Entity)>,
}

/// Parameters of a route that gives a page of rows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PageAsk {
    #[serde(default = "thousand")]
    limit: usize,
    after: Option<String>,
}

const fn thousand() -> usize {
    1_000
}

fn bounded(limit: usize) -> Result<usize, String> {
    if (1..=LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(format!("limit is {limit}; it must be 1 to {LIMIT_MAX}"))
    }
}

fn short(name: &str, text: &str) -> Result<(), String> {
    if text.len() <= TEXT_BYTES_MAX {
        Ok(())
    } else {
        Err(format!("{name} is longer than {TEXT_BYTES_MAX} bytes"))
    }
}

fn signal(catalogue: &Catalogue, name: &str) -> Result<Arc<str>, String> {
    let found = catalogue.signal(name);
    found.map(|signal| Arc::clone(&signal.name)).ok_or_else(|| {
        let names = catalogue.signal_names().join(", ");
        format!("there is no signal {name:?}; there are {names}")
    })
}

fn entity(text: &str) -> Result<Entity, String> {
    short("entity", text)?;
    text.parse().map_err(|error| format!("entity: {error}"))
}

fn kind(name: &str) -> Result<Kind, String> {
    Kind::from_name(name).ok_or_else(|| {
        let names: Vec<_> = Kind::all().map(Kind::name).collect();
        format!(
            "there is no kind of entity {name:?}; there are {}",
            names.join(" ")
        )
    })
}

impl ReadingsAsk {
    pub(super) fn check(&self, catalogue: &Catalogue) -> Result<ReadingsWanted, String> {
        let after = self.after.as_deref().map(|cursor| {
            short("after", cursor)?;
            let wrong = || "after must be the `next` of the page before".to_owned();
            let (name, text) = cursor.split_once('/').ok_or_else(wrong)?;
            let signal = catalogue.signal(name).ok_or_else(wrong)?;
            let entity: Entity = text.parse().map_err(|_| wrong())?;
            Ok::<_, String>((Arc::clone(&signal.name), entity))
        });
        Ok(ReadingsWanted {
            signal: self
                .signal
                .as_deref()
                .map(|name| signal(catalogue, name))
                .transpose()?,
            entity: self.entity.as_deref().map(entity).transpose()?,
            kind: self.kind.as_deref().map(kind).transpose()?,
            limit: bounded(self.limit)?,
            after: after.transpose()?,
        })
    }
}

impl PageAsk {
    /// How many rows, and after which one.
    pub(super) fn check(&self) -> Result<(usize, Option<&str>), String> {
        if let Some(after) = &self.after {
            short("after", after)?;
        }
        Ok((bounded(self.limit)?, self.after.as_deref()))
    }
}

/// What is said of a cursor that is none.
pub(super) const NO_CURSOR: &str =
    "after must be the `next` of the page before; ask for the first page again";

/// The text of an open episode's place.
pub(super) fn alert_cursor((severity, pending, episode): &AlertPlace) -> String {
    format!("{}/{}/{}", severity.0.as_str(), pending.0, episode.0)
}

/// The place of an open episode that a cursor names.
pub(super) fn alert_place(cursor: &str) -> Result<AlertPlace, String> {
    let parse = || {
        let (severity, rest) = cursor.split_once('/')?;
        let (pending, episode) = rest.split_once('/')?;
        let severity = [Severity::Page, Severity::Warn]
            .into_iter()
            .find(|known| known.as_str() == severity)?;
        let pending: i64 = pending.parse().ok()?;
        let episode = episode.to_owned();
        Some((Reverse(severity), Reverse(pending), Reverse(episode)))
    };
    parse().ok_or_else(|| NO_CURSOR.to_owned())
}

/// The text of an episode's place.
pub(super) fn episode_cursor((pending, episode): &EpisodePlace) -> String {
    format!("{}/{episode}", pending.0)
}

/// The place of an episode that a cursor names.
pub(super) fn episode_place(cursor: &str) -> Result<EpisodePlace, String> {
    let parse = || {
        let (pending, episode) = cursor.split_once('/')?;
        Some((Reverse(pending.parse().ok()?), episode.to_owned()))
    };
    parse().ok_or_else(|| NO_CURSOR.to_owned())
}
