//! A page with everything in it, to try a template on before there is one.

use std::collections::BTreeMap;
use std::sync::Arc;

use fenghuo_alert::{Severity, State, Transition};
use fenghuo_signal::{Entity, Kind, Reading};

use crate::{Action, Page};

/// 2026-11-11T12:00:00Z.
const AT_MS: i64 = 1_794_398_400_000;

/// An alert that began and fired; where it is over, all its times are there.
pub(super) fn page(action: Action) -> Page {
    let is_over = action == Action::Resolve;
    let id = "00000000000000000000000000000000";
    Page {
        delivery_id: "msg_sample".to_owned(),
        dedup_key: id.to_owned(),
        action,
        alert: Transition {
            episode: id.to_owned(),
            rule: "sample-rule".to_owned(),
            signal: "price.floor".to_owned(),
            entity: Entity::one(Kind::SKU, "sample"),
            from: if is_over {
                State::Recovering
            } else {
                State::Pending
            },
            to: if is_over {
                State::Resolved
            } else {
                State::Firing
            },
            severity: Severity::Page,
            at_ms: AT_MS,
            pending_at_ms: AT_MS,
            fired_at_ms: Some(AT_MS),
            resolved_at_ms: is_over.then_some(AT_MS),
            reading: Reading::exact(0.5, 100),
            peak: 0.5,
            playbook: Some("sample-rule".to_owned()),
            owner_role: Some("pricing".to_owned()),
            labels: Arc::new(BTreeMap::from([("team".to_owned(), "pricing".to_owned())])),
            summary: "sample sold at 0.5 of its floor".to_owned(),
            campaign: Some("d11".to_owned()),
        },
        shop: "sample".to_owned(),
        link: Some("http://fenghuo.example/?episode=0".to_owned()),
    }
}
