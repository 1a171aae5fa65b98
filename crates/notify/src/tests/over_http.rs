//! The same over real sockets, on a free port of the loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse as _, Response};

use super::fixture::{self, firing, resolved, webhook};
use crate::transport::{Http, Transport as _};
use crate::{ChannelConfig, ChannelKind, Notifier, Otherwise, Outcome, Secret, SecretSource};

/// What the receiver saw, and what it will answer.
#[derive(Default)]
struct Receiver {
    seen: Mutex<Vec<(String, HeaderMap, String)>>,
    answers: Mutex<Vec<Answer>>,
}

enum Answer {
    Status(u16),
    Throttled,
    /// To somewhere that takes everything.
    Redirect,
    /// Quotes what it was sent.
    Echo(u16),
    Hang,
}

impl Receiver {
    /// Starts a receiver with these answers, the first one first; then it takes everything.
    async fn start(mut answers: Vec<Answer>) -> (SocketAddr, Arc<Self>) {
        answers.reverse();
        let receiver = Arc::new(Self {
            seen: Mutex::default(),
            answers: Mutex::new(answers),
        });
        let router = Router::new()
            .fallback(answer)
            .with_state(Arc::clone(&receiver));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        (address, receiver)
    }

    fn ids(&self) -> Vec<String> {
        let id = |(_, headers, _): &(String, HeaderMap, String)| {
            headers["webhook-id"].to_str().unwrap().to_owned()
        };
        self.seen.lock().unwrap().iter().map(id).collect()
    }
}

async fn answer(
    State(receiver): State<Arc<Receiver>>,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response {
    receiver
        .seen
        .lock()
        .unwrap()
        .push((uri.path().to_owned(), headers, body.clone()));
    let answer = receiver.answers.lock().unwrap().pop();
    match answer {
        None => StatusCode::ACCEPTED.into_response(),
        Some(Answer::Status(status)) => StatusCode::from_u16(status).unwrap().into_response(),
        Some(Answer::Throttled) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", "0")]).into_response()
        }
        Some(Answer::Redirect) => (StatusCode::FOUND, [("location", "/elsewhere")]).into_response(),
        Some(Answer::Echo(status)) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
        Some(Answer::Hang) => std::future::pending().await,
    }
}

fn impatient(mut channel: ChannelConfig) -> Notifier {
    channel.sending.backoff_min = Duration::from_millis(1);
    channel.sending.backoff_max = Duration::from_millis(2);
    fixture::notifier(channel, Arc::new(Http::new().unwrap()))
}

#[tokio::test]
async fn answers_are_outlasted_under_the_same_id() {
    let answers = vec![Answer::Status(500), Answer::Throttled, Answer::Status(503)];
    let (address, receiver) = Receiver::start(answers).await;
    let notifier = impatient(webhook(&format!("http://{address}/in")));
    assert_eq!(
        notifier
            .send("hook", firing(), Otherwise::Undelivered)
            .await,
        Outcome::Delivered { attempts: 4 }
    );
    assert_eq!(receiver.ids(), ["msg_0001"; 4]);
    let seen = receiver.seen.lock().unwrap();
    assert_eq!(seen[0].1["content-type"], "application/json");
    assert!(
        seen[0].1["user-agent"]
            .to_str()
            .unwrap()
            .starts_with("fenghuo/")
    );
}

#[tokio::test]
async fn a_hanging_receiver_is_left_and_tried_again() {
    let (address, receiver) = Receiver::start(vec![Answer::Hang]).await;
    let mut channel = webhook(&format!("http://{address}/in"));
    channel.sending.timeout = Duration::from_millis(200);
    let outcome = impatient(channel)
        .send("hook", firing(), Otherwise::Undelivered)
        .await;
    assert!(
        matches!(outcome, Outcome::Delivered { attempts } if attempts > 1),
        "{outcome:?}"
    );
    assert!(receiver.ids().len() > 1);
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (address, receiver) = Receiver::start(vec![Answer::Redirect]).await;
    let outcome = impatient(webhook(&format!("http://{address}/in")))
        .send("hook", firing(), Otherwise::Undelivered)
        .await;
    assert!(
        matches!(outcome, Outcome::Failed { attempts: 1, .. }),
        "{outcome:?}"
    );
    assert_eq!(receiver.seen.lock().unwrap().len(), 1);
}

#[tokio::test]
async fn nobody_there_fails_at_the_deadline_without_showing_the_address() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut channel = webhook(&format!("http://{address}/services/s3cret"));
    channel.sending.deadline = Duration::from_millis(50);
    assert!(!format!("{channel:?}").contains("s3cret"));
    // Without the notifier's own blotting out, which knows the address as a whole only.
    let request = crate::transport::Request {
        url: format!("http://{address}/services/s3cret").parse().unwrap(),
        headers: Vec::new(),
        body: String::new(),
    };
    let no_answer = Http::new().unwrap().post(request).await.unwrap_err();
    assert!(!no_answer.to_string().contains("s3cret"), "{no_answer}");
    let outcome = impatient(channel)
        .send("hook", firing(), Otherwise::Undelivered)
        .await;
    let Outcome::Failed { reason, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        !reason.contains("s3cret") && !reason.contains("http://"),
        "{reason}"
    );
    assert!(reason.contains("refused"), "the cause is told: {reason}");
}

#[tokio::test]
async fn pagerduty_gets_what_its_contract_asks_for() {
    let (address, receiver) = Receiver::start(vec![]).await;
    let key = "0123456789abcdef0123456789abcdef";
    let kind = ChannelKind::PagerDuty {
        url: format!("http://{address}/v2/enqueue").parse().unwrap(),
        routing_key: SecretSource::Given(Secret::new(key)),
    };
    let notifier = impatient(ChannelConfig::new("pager", kind));
    for page in [firing(), resolved()] {
        assert_eq!(
            notifier.send("pager", page, Otherwise::Undelivered).await,
            Outcome::Delivered { attempts: 1 }
        );
    }
    let seen = receiver.seen.lock().unwrap();
    let mut keys = Vec::new();
    for (path, _, body) in seen.iter() {
        assert_eq!(path, "/v2/enqueue");
        fixture::check_pagerduty(body);
        let body: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(body["routing_key"], key);
        keys.push((
            body["event_action"].to_string(),
            body["dedup_key"].to_string(),
        ));
    }
    assert_eq!(
        (keys[0].0.as_str(), keys[1].0.as_str()),
        ("\"trigger\"", "\"resolve\"")
    );
    assert_eq!(keys[0].1, keys[1].1);
}

#[tokio::test]
async fn a_receiver_that_quotes_the_key_does_not_make_us_show_it() {
    let (address, _) = Receiver::start(vec![Answer::Echo(400)]).await;
    let key = "0123456789abcdef0123456789abcdef";
    let kind = ChannelKind::PagerDuty {
        url: format!("http://{address}/v2/enqueue").parse().unwrap(),
        routing_key: SecretSource::Given(Secret::new(key)),
    };
    // The quote is long enough to hold the key: it is not for want of room that it is missing.
    let mut page = firing();
    page.link = None;
    page.dedup_key = "d".to_owned();
    let outcome = impatient(ChannelConfig::new("pager", kind))
        .send("pager", page, Otherwise::Undelivered)
        .await;
    let Outcome::Failed {
        attempts: 1,
        reason,
    } = outcome
    else {
        panic!("{outcome:?}")
    };
    assert_eq!(reason, "status 400: [the answer repeats a secret]");
}

#[tokio::test]
async fn a_receiver_that_quotes_another_channels_key_does_not_make_us_show_it() {
    let (address, _) = Receiver::start(vec![Answer::Echo(400)]).await;
    let key = "0123456789abcdef0123456789abcdef";
    let kind = ChannelKind::PagerDuty {
        url: "http://127.0.0.1:9/v2/enqueue".parse().unwrap(),
        routing_key: SecretSource::Given(Secret::new(key)),
    };
    let channels = vec![
        webhook(&format!("http://{address}/in")),
        ChannelConfig::new("pager", kind),
    ];
    let notifier = Notifier::with(channels, crate::Means::system().unwrap()).unwrap();
    // A gateway between both may know the key; here the page itself brings it there.
    let mut page = firing();
    page.alert.summary = key.to_owned();
    let outcome = notifier.send("hook", page, Otherwise::Undelivered).await;
    let Outcome::Failed { reason, .. } = outcome else {
        panic!("{outcome:?}")
    };
    assert!(
        reason.ends_with("[the answer is no plain text]"),
        "{reason}"
    );
}
