//! Checks of the crates and the arrows between them, on what `cargo metadata` says.
//!
//! It must never look at a manifest itself: cargo has resolved inheritance and features already.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use super::{Finding, PURE};

/// Which crate builds on which, by directory. A crate may name any crate that it reaches along
/// these arrows; an edge that is not here is a decision about the design, to be made here first.
const ARROWS: &[(&str, &[&str])] = &[
    ("event", &[]),
    ("window", &[]),
    ("log", &[]),
    ("signal", &["event", "window"]),
    ("alert", &["signal"]),
    ("engine", &["alert", "log"]),
    ("kafka", &["log"]),
    ("embedded", &["log"]),
    ("intake", &["event", "log"]),
    ("notify", &["alert"]),
    ("sim", &["engine", "embedded"]),
    (
        "daemon",
        &["engine", "kafka", "embedded", "intake", "notify", "sim"],
    ),
    ("benches", &["daemon", "xtask"]),
    ("tests", &["daemon", "xtask"]),
    ("fuzz", &["daemon"]),
    ("xtask", &[]),
];

/// Crates whose tests start real services, and may therefore depend on `xtask` for them.
const TESTED_WITH_SERVICES: &[&str] = &["kafka", "daemon"];

/// Packages that make a crate impure, however far away they are.
const IMPURE: &[&str] = &[
    "tokio",
    "rdkafka",
    "rdkafka-sys",
    "axum",
    "reqwest",
    "hyper",
    "mio",
];

/// Packages that only the named crates may use: what the design keeps in one place.
const RESERVED: &[(&str, &[&str])] = &[
    ("dashmap", &["engine"]),
    ("rdkafka", &["kafka"]),
    ("rdkafka-sys", &["kafka"]),
    ("reqwest", &["daemon", "tests"]),
];

/// The part of `cargo metadata` that the checks read.
#[derive(Debug, Deserialize)]
pub struct Metadata {
    packages: Vec<Package>,
    workspace_members: BTreeSet<String>,
    resolve: Resolve,
}

#[derive(Debug, Deserialize)]
struct Package {
    id: String,
    name: String,
    description: Option<String>,
    dependencies: Vec<Dependency>,
}

#[derive(Debug, Deserialize)]
struct Dependency {
    name: String,
    kind: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Resolve {
    nodes: Vec<Node>,
}

#[derive(Debug, Deserialize)]
struct Node {
    id: String,
    deps: Vec<NodeDependency>,
}

#[derive(Debug, Deserialize)]
struct NodeDependency {
    pkg: String,
    dep_kinds: Vec<DependencyKind>,
}

#[derive(Debug, Deserialize)]
struct DependencyKind {
    kind: Option<String>,
}

impl Metadata {
    fn members(&self) -> impl Iterator<Item = &Package> {
        self.packages
            .iter()
            .filter(|package| self.workspace_members.contains(&package.id))
    }

    fn is_member(&self, name: &str) -> bool {
        self.members().any(|package| package.name == name)
    }
}

/// The directory that a package is named after: `fenghuo-log` lives in `log`.
fn short(package: &str) -> &str {
    package.strip_prefix("fenghuo-").unwrap_or(package)
}

/// Every crate says in one line what it is for.
pub(super) fn check_descriptions(metadata: &Metadata) -> Vec<Finding> {
    metadata
        .members()
        .filter(|package| {
            package
                .description
                .as_deref()
                .is_none_or(|text| text.trim().is_empty())
        })
        .map(|package| Finding::new(&package.name, "has no description in its Cargo.toml"))
        .collect()
}

/// Every dependency between members follows the arrows.
pub(super) fn check_arrows(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.members() {
        let from = short(&package.name);
        let Some(allowed) = reachable(from) else {
            findings.push(Finding::new(
                &package.name,
                "is not in the table of arrows (crates/xtask/src/tidy/crates.rs)",
            ));
            continue;
        };
        for dependency in &package.dependencies {
            let to = short(&dependency.name);
            let services = to == "xtask"
                && dependency.kind.as_deref() == Some("dev")
                && TESTED_WITH_SERVICES.contains(&from);
            if !metadata.is_member(&dependency.name) || allowed.contains(to) || services {
                continue;
            }
            let kind = dependency.kind.as_deref().unwrap_or("normal");
            findings.push(Finding::new(
                &package.name,
                format!("{from} -> {to} ({kind}) is not one of the design's arrows"),
            ));
        }
    }
    findings
}

/// All that `from` reaches along the arrows; nothing if it is not in the table.
fn reachable(from: &str) -> Option<BTreeSet<&'static str>> {
    let direct = |name: &str| {
        ARROWS
            .iter()
            .find(|(from, _)| *from == name)
            .map(|(_, to)| *to)
    };
    let mut waiting: Vec<&str> = direct(from)?.to_vec();
    let mut reached = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if reached.insert(name) {
            waiting.extend(direct(name).unwrap_or_default());
        }
    }
    Some(reached)
}

/// No pure crate reaches a runtime or a client library, at any distance, in what it ships.
pub(super) fn check_purity(metadata: &Metadata) -> Vec<Finding> {
    let names: BTreeMap<&str, &str> = metadata
        .packages
        .iter()
        .map(|package| (package.id.as_str(), package.name.as_str()))
        .collect();
    let edges: BTreeMap<&str, Vec<&str>> = metadata
        .resolve
        .nodes
        .iter()
        .map(|node| {
            let normal = node
                .deps
                .iter()
                .filter(|dep| dep.dep_kinds.iter().any(|kind| kind.kind.is_none()))
                .map(|dep| dep.pkg.as_str());
            (node.id.as_str(), normal.collect())
        })
        .collect();
    let mut findings = Vec::new();
    for package in metadata
        .members()
        .filter(|package| PURE.contains(&short(&package.name)))
    {
        // Each package is walked from once, with the way that led to it, so that the finding can
        // name the culprit and not only the crime.
        let mut seen = BTreeSet::from([package.id.as_str()]);
        let mut waiting = vec![vec![package.id.as_str()]];
        while let Some(way) = waiting.pop() {
            let Some(last) = way.last() else { continue };
            for next in edges.get(last).into_iter().flatten() {
                if !seen.insert(next) {
                    continue;
                }
                let mut longer = way.clone();
                longer.push(next);
                if names.get(next).is_some_and(|name| IMPURE.contains(name)) {
                    let way: Vec<&str> = longer
                        .iter()
                        .map(|id| names.get(id).copied().unwrap_or(id))
                        .collect();
                    findings.push(Finding::new(
                        &package.name,
                        format!("is pure, and reaches {}", way.join(" -> ")),
                    ));
                } else {
                    waiting.push(longer);
                }
            }
        }
    }
    findings
}

/// What the design keeps in one crate is used in no other.
pub(super) fn check_reserved(metadata: &Metadata) -> Vec<Finding> {
    let mut findings = Vec::new();
    for package in metadata.members() {
        for dependency in &package.dependencies {
            let Some((name, owners)) = RESERVED.iter().find(|(name, _)| *name == dependency.name)
            else {
                continue;
            };
            if !owners.contains(&short(&package.name)) {
                findings.push(Finding::new(
                    &package.name,
                    format!(
                        "depends on {name}, which only {} may use",
                        owners.join(", ")
                    ),
                ));
            }
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A package's name, description, and dependencies by name and kind.
    type Sketch<'a> = (&'a str, &'a str, &'a [(&'a str, Option<&'a str>)]);

    /// A workspace of the given packages. Those named `fenghuo-…` or `xtask` are its members.
    fn workspace(packages: &[Sketch<'_>]) -> Metadata {
        let list: Vec<_> = packages
            .iter()
            .map(|(name, description, dependencies)| {
                let dependencies: Vec<_> = dependencies
                    .iter()
                    .map(|(name, kind)| json!({ "name": name, "kind": kind }))
                    .collect();
                json!({ "id": format!("path+{name}"), "name": name, "description": description,
                        "dependencies": dependencies })
            })
            .collect();
        let nodes: Vec<_> = packages
            .iter()
            .map(|(name, _, dependencies)| {
                let deps: Vec<_> = dependencies
                    .iter()
                    .map(|(name, kind)| {
                        json!({ "pkg": format!("path+{name}"), "dep_kinds": [{ "kind": kind }] })
                    })
                    .collect();
                json!({ "id": format!("path+{name}"), "deps": deps })
            })
            .collect();
        let members: Vec<_> = packages
            .iter()
            .filter(|(name, ..)| name.starts_with("fenghuo-") || *name == "xtask")
            .map(|(name, ..)| format!("path+{name}"))
            .collect();
        let value = json!({ "packages": list, "workspace_members": members, "resolve": { "nodes": nodes } });
        serde_json::from_value(value).unwrap()
    }

    fn texts(findings: Vec<Finding>) -> Vec<String> {
        findings.iter().map(Finding::to_string).collect()
    }

    #[test]
    fn a_crate_without_description_is_found() {
        let metadata = workspace(&[
            ("fenghuo-log", " ", &[]),
            ("fenghuo-event", "What happened.", &[]),
            ("serde", "", &[]),
        ]);
        assert_eq!(
            texts(check_descriptions(&metadata)),
            ["fenghuo-log: has no description in its Cargo.toml"]
        );
    }

    #[test]
    fn an_edge_against_the_arrows_is_found() {
        let metadata = workspace(&[
            ("fenghuo-event", "x", &[]),
            ("fenghuo-log", "x", &[("fenghuo-engine", None)]),
            (
                "fenghuo-signal",
                "x",
                &[("fenghuo-event", None), ("fenghuo-log", Some("dev"))],
            ),
            // Reached through signal, so no arrow of its own is needed.
            (
                "fenghuo-alert",
                "x",
                &[("fenghuo-signal", None), ("fenghuo-event", None)],
            ),
            (
                "fenghuo-engine",
                "x",
                &[("fenghuo-alert", None), ("fenghuo-log", None)],
            ),
        ]);
        assert_eq!(
            texts(check_arrows(&metadata)),
            [
                "fenghuo-log: log -> engine (normal) is not one of the design's arrows",
                "fenghuo-signal: signal -> log (dev) is not one of the design's arrows",
            ]
        );
    }

    #[test]
    fn a_crate_outside_the_table_is_found() {
        let metadata = workspace(&[("fenghuo-attic", "x", &[])]);
        assert_eq!(check_arrows(&metadata).len(), 1);
    }

    #[test]
    fn xtask_is_for_tests_with_services_only() {
        let metadata = workspace(&[
            ("xtask", "x", &[]),
            ("fenghuo-kafka", "x", &[("xtask", Some("dev"))]),
            ("fenghuo-daemon", "x", &[("xtask", None)]),
            ("fenghuo-alert", "x", &[("xtask", Some("dev"))]),
        ]);
        assert_eq!(
            texts(check_arrows(&metadata)),
            [
                "fenghuo-daemon: daemon -> xtask (normal) is not one of the design's arrows",
                "fenghuo-alert: alert -> xtask (dev) is not one of the design's arrows",
            ]
        );
    }

    #[test]
    fn a_pure_crate_that_reaches_a_runtime_is_found_with_the_way() {
        let metadata = workspace(&[
            (
                "fenghuo-window",
                "x",
                &[("tower", None), ("criterion", Some("dev"))],
            ),
            ("tower", "x", &[("tokio", None)]),
            // A runtime that only tests or build scripts use does not ship.
            ("criterion", "x", &[("tokio", None)]),
            ("tokio", "x", &[]),
            ("fenghuo-notify", "x", &[("tokio", None)]),
        ]);
        assert_eq!(
            texts(check_purity(&metadata)),
            ["fenghuo-window: is pure, and reaches fenghuo-window -> tower -> tokio"]
        );
    }

    #[test]
    fn a_reserved_package_in_the_wrong_crate_is_found() {
        let metadata = workspace(&[
            ("fenghuo-engine", "x", &[("dashmap", None)]),
            ("fenghuo-daemon", "x", &[("dashmap", None)]),
            ("dashmap", "x", &[]),
        ]);
        assert_eq!(
            texts(check_reserved(&metadata)),
            ["fenghuo-daemon: depends on dashmap, which only engine may use"]
        );
    }

    #[test]
    fn every_arrow_points_to_a_crate_of_the_table_and_none_back() {
        for (from, to) in ARROWS {
            for name in *to {
                assert!(reachable(name).is_some(), "{from} -> {name}");
            }
            assert!(
                !reachable(from).unwrap().contains(from),
                "{from} reaches itself"
            );
        }
    }
}
