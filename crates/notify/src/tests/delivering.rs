//! The loop that all channels share, under a paused clock and against a script.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use super::fixture::{Scripted, Step, firing, notifier, resolved, warning, webhook};
use crate::{Notifier, Otherwise, Outcome};

const URL: &str = "https://hooks.example/path/s3cret";

fn set_up(steps: &[Step]) -> (Notifier, Arc<Scripted>) {
    let transport = Scripted::new(steps);
    (notifier(webhook(URL), transport.clone()), transport)
}

fn header<'a>(request: &'a crate::transport::Request, name: &str) -> &'a str {
    &request
        .headers
        .iter()
        .find(|header| header.0 == name)
        .unwrap()
        .1
}

#[tokio::test(start_paused = true)]
async fn what_is_taken_at_once_is_sent_once() {
    let (notifier, receiver) = set_up(&[Step::Status(202)]);
    assert_eq!(
        notifier
            .send("hook", firing(), Otherwise::Undelivered)
            .await,
        Outcome::Delivered { attempts: 1 }
    );
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_is_not_tried_again() {
    for status in [301, 400, 401, 404, 410] {
        let (notifier, receiver) = set_up(&[Step::Status(status)]);
        let outcome = notifier
            .send("hook", firing(), Otherwise::Undelivered)
            .await;
        let reason = format!("status {status}");
        assert_eq!(
            outcome,
            Outcome::Failed {
                attempts: 1,
                reason
            }
        );
        assert_eq!(receiver.seen().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn trouble_is_outlasted_under_the_same_id() {
    let script = [
        Step::Status(500),
        Step::Hang,
        Step::NoAnswer,
        Step::Status(503),
    ];
    let (notifier, receiver) = set_up(&script);
    assert_eq!(
        notifier
            .send("hook", firing(), Otherwise::Undelivered)
            .await,
        Outcome::Delivered { attempts: 5 }
    );
    let seen = receiver.seen();
    assert_eq!(seen.len(), 5);
    for (_, request) in &seen {
        assert_eq!(header(request, "webhook-id"), "msg_0001");
        assert_eq!(request.body, seen[0].1.body);
    }
    let stamps = (
        header(&seen[0].1, "webhook-timestamp"),
        header(&seen[4].1, "webhook-timestamp"),
    );
    assert_ne!(stamps.0, stamps.1, "each try has its own time");
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_up_to_its_cap_and_by_the_whole_channel() {
    let script = [Step::RetryAfter(429, "20"), Step::RetryAfter(503, "86400")];
    let (notifier, receiver) = set_up(&script);
    let notifier = Arc::new(notifier);
    let start = Instant::now();
    let first = tokio::spawn({
        let notifier = Arc::clone(&notifier);
        async move {
            notifier
                .send("hook", firing(), Otherwise::Undelivered)
                .await
        }
    });
    tokio::task::yield_now().await;
    while receiver.seen().is_empty() {
        tokio::task::yield_now().await;
    }
    let mut other = warning();
    other.dedup_key = "other".to_owned();
    other.delivery_id = "msg_other".to_owned();
    // The page behind a throttled one waits too, and takes the 503 or the last answer.
    let second = notifier.send("hook", other, Otherwise::Undelivered).await;
    assert!(matches!(second, Outcome::Delivered { .. }), "{second:?}");
    let first = first.await.unwrap();
    assert!(matches!(first, Outcome::Delivered { .. }), "{first:?}");
    let seen: Vec<Duration> = receiver.seen().iter().map(|(at, _)| *at - start).collect();
    assert_eq!(seen.len(), 4);
    assert!(seen[1] >= Duration::from_secs(20), "{seen:?}");
    assert!(seen[3] >= Duration::from_secs(80), "{seen:?}");
    assert!(
        seen[3] <= Duration::from_secs(100),
        "a day is more than the cap: {seen:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn at_the_deadline_it_has_failed_and_says_why() {
    let mut channel = webhook(URL);
    channel.sending.deadline = Duration::from_secs(30);
    let receiver = Scripted::new(&vec![Step::Status(500); 1_000]);
    let start = Instant::now();
    let outcome = notifier(channel, receiver.clone())
        .send("hook", firing(), Otherwise::Undelivered)
        .await;
    let Outcome::Failed { attempts, reason } = outcome else {
        panic!("{outcome:?}")
    };
    assert_eq!(attempts as usize, receiver.seen().len());
    assert!(attempts > 3);
    assert_eq!(
        reason,
        "no more try within the deadline of 30s; last: status 500"
    );
    assert!(Instant::now() - start <= Duration::from_secs(30));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_while_waiting_for_the_rate_makes_no_try() {
    let mut channel = webhook(URL);
    channel.sending.rate_per_minute = 1;
    channel.sending.burst = 1;
    channel.sending.deadline = Duration::from_secs(30);
    let receiver = Scripted::new(&[]);
    let notifier = notifier(channel, receiver.clone());
    assert_eq!(
        notifier
            .send("hook", firing(), Otherwise::Undelivered)
            .await,
        Outcome::Delivered { attempts: 1 }
    );
    let outcome = notifier
        .send("hook", firing(), Otherwise::Undelivered)
        .await;
    assert!(
        matches!(outcome, Outcome::Failed { attempts: 0, .. }),
        "{outcome:?}"
    );
    assert_eq!(receiver.seen().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_and_nothing_is_dropped() {
    let mut channel = webhook(URL);
    channel.sending.rate_per_minute = 60;
    channel.sending.burst = 5;
    let receiver = Scripted::new(&[]);
    let notifier = Arc::new(notifier(channel, receiver.clone()));
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..65 {
        let notifier = Arc::clone(&notifier);
        let mut page = warning();
        page.dedup_key = format!("key {number}");
        tasks.spawn(async move { notifier.send("hook", page, Otherwise::Undelivered).await });
    }
    let outcomes = tasks.join_all().await;
    assert!(
        outcomes
            .iter()
            .all(|outcome| *outcome == Outcome::Delivered { attempts: 1 })
    );
    let late = receiver
        .seen()
        .iter()
        .filter(|(at, _)| *at - start > Duration::from_secs(59))
        .count();
    assert_eq!(
        (receiver.seen().len(), late),
        (65, 1),
        "5 at once, then one a second"
    );
}

#[tokio::test(start_paused = true)]
async fn a_resolve_never_overtakes_its_trigger() {
    let (notifier, receiver) = set_up(&[Step::Status(500), Step::Status(500), Step::Status(500)]);
    let (first, second) = tokio::join!(
        notifier.send("hook", firing(), Otherwise::Undelivered),
        notifier.send("hook", resolved(), Otherwise::Undelivered)
    );
    assert_eq!(first, Outcome::Delivered { attempts: 4 });
    assert_eq!(second, Outcome::Delivered { attempts: 1 });
    let seen = receiver.seen();
    let ids: Vec<&str> = seen
        .iter()
        .map(|seen| header(&seen.1, "webhook-id"))
        .collect();
    assert_eq!(
        ids,
        ["msg_0001", "msg_0001", "msg_0001", "msg_0001", "msg_0002"]
    );
}

#[tokio::test(start_paused = true)]
async fn an_unknown_channel_is_a_failure_not_a_panic() {
    let (notifier, _) = set_up(&[]);
    let outcome = notifier
        .send("pager", firing(), Otherwise::Undelivered)
        .await;
    assert!(matches!(outcome, Outcome::Failed { attempts: 0, .. }));
    assert_eq!(notifier.channels().collect::<Vec<_>>(), ["hook"]);
}

#[tokio::test(start_paused = true)]
async fn a_stuck_channel_is_shown_and_lets_go_of_what_can_go_another_way() {
    let notifier = Arc::new(set_up(&vec![Step::Hang; 5_000]).0);
    let mut sending = tokio::task::JoinSet::new();
    for number in 0..3_000 {
        let notifier = Arc::clone(&notifier);
        let mut page = firing();
        page.dedup_key = format!("episode-{number}");
        sending.spawn(async move {
            let began = Instant::now();
            let outcome = notifier.send("hook", page, Otherwise::AnotherChannel).await;
            assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
            Instant::now() - began
        });
    }
    let waited = sending.join_all().await;
    let longest = waited.into_iter().max().unwrap();
    assert!(longest <= Duration::from_secs(31), "{longest:?}");
    let standing = &notifier.standing()[0];
    assert!(standing.is_stuck, "{standing:?}");

    // Without another channel it is tried to its deadline.
    let began = Instant::now();
    notifier
        .send("hook", firing(), Otherwise::Undelivered)
        .await;
    assert!(Instant::now() - began > Duration::from_secs(200));
}

#[tokio::test(start_paused = true)]
async fn a_channel_that_answers_again_is_stuck_no_more() {
    let (notifier, _receiver) = set_up(&[Step::Hang, Step::Hang, Step::Hang, Step::Hang]);
    notifier
        .send("hook", firing(), Otherwise::Undelivered)
        .await;
    let standing = &notifier.standing()[0];
    assert_eq!((standing.is_stuck, &standing.failing), (false, &None));
}
