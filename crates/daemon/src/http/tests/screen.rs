//! The screen's stream.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_screen_gets_a_snapshot_and_its_stream_ends_with_the_process() {
    let (router, context, close) = served(shown());
    let publisher = tokio::spawn(live::publish(Arc::clone(&context), context.closing.clone()));
    let request = Request::get("/api/v1/live").header("host", "localhost");
    let request = request.body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "text/event-stream");
    let mut body = response.into_body().into_data_stream();
    let first = body.next().await.unwrap().unwrap();
    let text = String::from_utf8(first.to_vec()).unwrap();
    let data = text.strip_prefix("event: snapshot\ndata: ").unwrap();
    let snapshot: Value = serde_json::from_str(data.trim()).unwrap();
    assert_eq!(snapshot["shop"], "42");
    assert_eq!(snapshot["not_ready"], "the orders are 90 s behind");
    assert!(snapshot["events"].as_u64().unwrap() > 100);
    assert_eq!(snapshot["campaigns"][0]["name"], "double-11");
    assert_eq!(
        snapshot["campaigns"][0]["chart"].as_array().unwrap().len(),
        150
    );
    let tables = snapshot["tables"].as_array().unwrap();
    let cover = tables
        .iter()
        .find(|table| table["signal"] == "stock.hours_of_cover");
    let rows = cover.unwrap()["rows"].as_array().unwrap();
    assert_eq!(rows.len(), SKUS);
    // The worst stand first, and what is beyond a limit is told by the rules alone.
    let grades = rows.iter().map(|row| {
        let number = |name: &str| row["reading"][name].as_f64().unwrap();
        let expected = match (
            number("upper") < 1.0,
            number("value") < 2.0,
            number("lower") < 0.0,
        ) {
            (true, ..) => "page",
            (false, false, false) => "good",
            _ => "warn",
        };
        assert_eq!(row["grade"], expected, "{row}");
        ["page", "warn", "good"]
            .iter()
            .position(|grade| *grade == expected)
    });
    assert!(grades.is_sorted());
    let groups = snapshot["groups"].as_array().unwrap();
    assert!(groups.iter().any(|group| group["rule"] == "price-floor"));
    // Nothing changes any more: what comes next is a beat.
    let second = body.next().await.unwrap().unwrap();
    assert!(second.starts_with(b"event: beat\n"), "{second:?}");
    close.send_replace(true);
    assert!(body.next().await.is_none());
    publisher.await.unwrap();
}

#[tokio::test]
async fn the_screen_is_told_what_is_wrong_with_the_process_the_gravest_first() {
    use crate::conditions::Condition;
    let shown = shown();
    for (at_ms, name, severity) in [
        (1, "clock.stepped", fenghuo_alert::Severity::Warn),
        (2, "disk.full", fenghuo_alert::Severity::Page),
    ] {
        let condition = Condition {
            name,
            about: String::new(),
            severity,
            blocks_ready: false,
            text: format!("{name}: what to do"),
        };
        shown.conditions.set(at_ms, condition);
    }
    let conditions = Arc::clone(&shown.conditions);
    let (router, ..) = served(shown);
    let told = async || -> Value {
        let (_, text) = ask(&router, "/api/v1/snapshot", &[]).await;
        serde_json::from_str(&text).unwrap()
    };
    let snapshot = told().await;
    assert_eq!(snapshot["conditions"][0]["name"], "disk.full");
    assert_eq!(snapshot["conditions"][0]["text"], "disk.full: what to do");
    assert_eq!(snapshot["conditions"][0]["since_ms"], 2);
    assert_eq!(snapshot["conditions"][1]["severity"], "warn");
    conditions.clear("disk.full", "");
    conditions.clear("clock.stepped", "");
    let snapshot = told().await;
    assert_eq!(snapshot["conditions"], serde_json::json!([]));
}

#[tokio::test]
async fn screens_are_bounded() {
    let (router, ..) = served(shown());
    let mut open = Vec::new();
    let status = async |open: &mut Vec<_>| {
        let request = Request::get("/api/v1/live").header("host", "localhost");
        let request = request.body(Body::empty()).unwrap();
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        open.push(response);
        status
    };
    for _ in 0..Bounds::default().seats(Class::Live) {
        assert_eq!(status(&mut open).await, StatusCode::OK);
    }
    assert_eq!(status(&mut open).await, StatusCode::SERVICE_UNAVAILABLE);
    open.clear();
    assert_eq!(status(&mut open).await, StatusCode::OK);
}
