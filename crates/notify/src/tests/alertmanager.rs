//! Alertmanager: identity, escalation, refresh, and members that fail.

use std::sync::Arc;
use std::time::Duration;

use fenghuo_alert::{Severity, State};
use serde_json::Value;

use super::fixture::{self, Scripted, Step, firing, resolved};
use crate::{ChannelConfig, ChannelKind, Notifier, Otherwise, Outcome, Page};

const MINUTE: Duration = Duration::from_secs(60);

fn channel(members: &[&str], open_max: usize) -> ChannelConfig {
    let kind = ChannelKind::Alertmanager {
        urls: members.iter().map(|url| url.parse().unwrap()).collect(),
        authorization: None,
        refresh: MINUTE,
        resolved_for: 5 * MINUTE,
        open_max,
    };
    ChannelConfig::new("am", kind)
}

fn set_up(members: &[&str], steps: &[Step]) -> (Notifier, Arc<Scripted>) {
    let receiver = Scripted::new(steps);
    (
        fixture::notifier(channel(members, 100), receiver.clone()),
        receiver,
    )
}

fn warned() -> Page {
    let mut page = firing();
    page.alert.severity = Severity::Warn;
    page
}

fn escalated() -> Page {
    let mut page = firing();
    page.alert.from = State::Firing;
    page.alert.at_ms += 10_000;
    page
}

/// The alerts of each request: severity, and whether it is over.
fn told(receiver: &Scripted) -> Vec<Vec<(String, bool)>> {
    let alert = |alert: &Value| {
        let severity = alert["labels"]["severity"].as_str().unwrap().to_owned();
        (severity, alert.get("endsAt").is_some())
    };
    let request = |body: &str| {
        let alerts: Vec<Value> = serde_json::from_str(body).unwrap();
        alerts.iter().map(alert).collect()
    };
    receiver
        .seen()
        .iter()
        .map(|(_, sent)| request(&sent.body))
        .collect()
}

fn open(severity: &str) -> (String, bool) {
    (severity.to_owned(), false)
}

fn over(severity: &str) -> (String, bool) {
    (severity.to_owned(), true)
}

async fn deliver(notifier: &Notifier, page: Page) {
    assert_eq!(
        notifier.send("am", page, Otherwise::Undelivered).await,
        Outcome::Delivered { attempts: 1 }
    );
}

#[tokio::test(start_paused = true)]
async fn the_requests() {
    let (notifier, receiver) = set_up(&["http://am:9093/prefix/"], &[]);
    deliver(&notifier, firing()).await;
    deliver(&notifier, resolved()).await;
    let mut pair = fixture::warning();
    std::sync::Arc::make_mut(&mut pair.alert.labels).insert("1st team".to_owned(), "x".to_owned());
    std::sync::Arc::make_mut(&mut pair.alert.labels)
        .insert("severity".to_owned(), "mine".to_owned());
    deliver(&notifier, pair).await;
    let seen = receiver.seen();
    for (name, (_, request)) in ["firing", "resolved", "pair"].iter().zip(&seen) {
        insta::assert_snapshot!(format!("alertmanager_{name}"), fixture::shown(request));
    }
    let labels = |index: usize| {
        let body: Value = serde_json::from_str(&seen[index].1.body).unwrap();
        body[0]["labels"].clone()
    };
    assert_eq!(labels(0), labels(1), "trigger and resolve are one alert");
}

#[tokio::test(start_paused = true)]
async fn when_severity_rises_the_lower_alert_ends_with_the_same_request() {
    let (notifier, receiver) = set_up(&["http://am:9093"], &[]);
    deliver(&notifier, warned()).await;
    deliver(&notifier, escalated()).await;
    deliver(&notifier, resolved()).await;
    assert_eq!(
        told(&receiver),
        [
            vec![open("warn")],
            vec![over("warn"), open("page")],
            vec![over("page"), over("warn")],
        ]
    );
}

#[tokio::test(start_paused = true)]
async fn open_alerts_are_sent_every_minute_and_resolved_ones_for_a_while() {
    let (notifier, receiver) = set_up(&["http://am:9093"], &[]);
    let notifier = Arc::new(notifier);
    notifier.adopt("am", &firing());
    assert!(
        receiver.seen().is_empty(),
        "adopting sends nothing by itself"
    );
    let refreshing = tokio::spawn({
        let notifier = Arc::clone(&notifier);
        async move { notifier.refresh().await }
    });
    tokio::time::sleep(5 * MINUTE + MINUTE / 2).await;
    assert_eq!(
        told(&receiver),
        vec![vec![open("page")]; 6],
        "at once, then each minute"
    );
    deliver(&notifier, resolved()).await;
    tokio::time::sleep(60 * MINUTE).await;
    assert_eq!(
        told(&receiver)[6..],
        vec![vec![over("page")]; 6],
        "the resolve and five more"
    );
    let first_end = |index: usize| {
        let body: Value = serde_json::from_str(&receiver.seen()[index].1.body).unwrap();
        body[0]["endsAt"].clone()
    };
    assert_eq!(first_end(6), first_end(11), "its end does not move");
    refreshing.abort();
}

#[tokio::test(start_paused = true)]
async fn the_end_of_one_episode_is_not_the_end_of_the_next() {
    let (notifier, receiver) = set_up(&["http://am:9093"], &[]);
    let notifier = Arc::new(notifier);
    deliver(&notifier, firing()).await;
    deliver(&notifier, resolved()).await;
    let mut next = firing();
    next.dedup_key = "next".to_owned();
    deliver(&notifier, next).await;
    // A late repeat of the first end, and the refresh: both must leave the new episode open.
    notifier
        .send("am", resolved(), Otherwise::Undelivered)
        .await;
    let refreshing = tokio::spawn({
        let notifier = Arc::clone(&notifier);
        async move { notifier.refresh().await }
    });
    tokio::time::sleep(MINUTE / 2).await;
    assert_eq!(told(&receiver).last().unwrap(), &vec![open("page")]);
    refreshing.abort();
}

#[tokio::test(start_paused = true)]
async fn one_member_is_enough_and_the_refresh_brings_it_to_the_others() {
    let members = ["http://am1:9093", "http://am2:9093"];
    let (notifier, receiver) = set_up(&members, &[Step::Hang, Step::Status(200)]);
    deliver(&notifier, firing()).await;
    let hosts = || -> Vec<String> {
        let host = |request: &crate::transport::Request| request.url.host_str().unwrap().to_owned();
        let mut hosts: Vec<String> = receiver.seen().iter().map(|seen| host(&seen.1)).collect();
        hosts.sort();
        hosts
    };
    assert_eq!(hosts(), ["am1", "am2"]);
    let refresh = tokio::time::timeout(MINUTE / 2, notifier.refresh()).await;
    assert!(refresh.is_err());
    assert_eq!(hosts(), ["am1", "am1", "am2", "am2"]);
}

#[tokio::test(start_paused = true)]
async fn without_any_member_it_is_tried_again_and_refused_only_by_all() {
    let members = ["http://am1:9093", "http://am2:9093"];
    let script = [
        Step::Status(400),
        Step::Status(503),
        Step::Status(400),
        Step::Status(200),
    ];
    let (notifier, _) = set_up(&members, &script);
    assert_eq!(
        notifier.send("am", firing(), Otherwise::Undelivered).await,
        Outcome::Delivered { attempts: 2 }
    );
    let (notifier, _) = set_up(&members, &[Step::Status(400), Step::Status(400)]);
    let outcome = notifier.send("am", firing(), Otherwise::Undelivered).await;
    let reason = "status 400".to_owned();
    assert_eq!(
        outcome,
        Outcome::Failed {
            attempts: 1,
            reason
        }
    );
}

#[tokio::test(start_paused = true)]
async fn news_during_a_refresh_follows_at_once() {
    // The refresh hangs with the alert still open; meanwhile it resolves.
    struct Slow(Arc<Scripted>);
    impl crate::transport::Transport for Slow {
        fn post(&self, request: crate::transport::Request) -> crate::transport::Posting<'_> {
            let first = self.0.seen().is_empty();
            let answer = self.0.post(request);
            Box::pin(async move {
                if first {
                    tokio::time::sleep(Duration::from_secs(2)).await;
                }
                answer.await
            })
        }
    }
    let receiver = Scripted::new(&[]);
    let slow = Arc::new(Slow(receiver.clone()));
    let notifier = fixture::notifier(channel(&["http://am:9093"], 100), slow);
    notifier.adopt("am", &firing());
    let resolving = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        deliver(&notifier, resolved()).await;
        tokio::time::sleep(MINUTE / 2).await;
    };
    tokio::select! {
        () = resolving => {}
        () = notifier.refresh() => {}
    }
    let told = told(&receiver);
    assert_eq!(
        told,
        [vec![open("page")], vec![over("page")], vec![over("page")]]
    );
}

#[tokio::test(start_paused = true)]
async fn what_does_not_fit_is_still_sent() {
    let receiver = Scripted::new(&[]);
    let notifier = fixture::notifier(channel(&["http://am:9093"], 1), receiver.clone());
    deliver(&notifier, firing()).await;
    let mut other = fixture::warning();
    other.dedup_key = "other".to_owned();
    deliver(&notifier, other).await;
    assert_eq!(receiver.seen().len(), 2);
    let refresh = tokio::time::timeout(MINUTE / 2, notifier.refresh()).await;
    assert!(refresh.is_err());
    assert_eq!(
        told(&receiver)[2..],
        [vec![open("page")]],
        "only what is kept is refreshed"
    );
}
