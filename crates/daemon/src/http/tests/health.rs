//! Health, to who shows a token and to who shows none.

use super::*;

#[tokio::test]
async fn health_says_why_not() {
    let (router, ..) = served(shown());
    assert_eq!(ask(&router, "/-/healthy", &[]).await.0, StatusCode::OK);
    let (status, text) = ask(&router, "/-/ready", &[]).await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(text, r#"{"error":"the orders are 90 s behind"}"#);
}

#[tokio::test]
async fn what_is_wrong_with_the_process_is_told_though_it_is_ready() {
    let shown = Shown {
        ready: Arc::new(|| Ok(())),
        ..shown()
    };
    let condition = crate::conditions::Condition {
        name: "map.full",
        about: "entities".to_owned(),
        severity: fenghuo_alert::Severity::Warn,
        blocks_ready: false,
        text: "the map of entities is nearly full".to_owned(),
    };
    shown.conditions.set(7, condition);
    let (router, ..) = served(shown);
    let (status, text) = ask(&router, "/-/ready", &[]).await;
    let told: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((status, &told["ok"]), (StatusCode::OK, &true.into()));
    assert_eq!(told["conditions"][0]["name"], "map.full");
    assert_eq!(told["conditions"][0]["since_ms"], 7);
    let (_, metrics) = ask(&router, "/metrics", &[]).await;
    assert_eq!(
        samples(&metrics, "fenghuo_condition"),
        [r#"fenghuo_condition{name="map.full",about="entities"} 1"#]
    );
}

#[tokio::test]
async fn health_names_nothing_of_the_shop_to_who_shows_no_token() {
    let shown = Shown {
        token: Some(Secret::new("operator-token")),
        ready: Arc::new(|| Err("the channel secret-channel is stuck".to_owned())),
        ..shown()
    };
    for about in ["entities", "secret-map"] {
        shown.conditions.set(
            7,
            crate::conditions::Condition {
                name: "map.full",
                about: about.to_owned(),
                severity: fenghuo_alert::Severity::Page,
                blocks_ready: true,
                text: "The last ones: campaign=secret-campaign, sku=secret-sku".to_owned(),
            },
        );
    }
    let (router, ..) = served(shown);
    for wrong in [&[][..], &[("authorization", "Bearer something-else")]] {
        let (status, text) = ask(&router, "/-/ready", wrong).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(!text.contains("secret"), "{text}");
        let told: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(told["conditions"][0]["name"], "map.full");
        assert_eq!(told["conditions"][0]["count"], 2);
    }
    let right = [("authorization", "Bearer operator-token")];
    let (_, text) = ask(&router, "/-/ready", &right).await;
    for named in ["secret-sku", "secret-map", "secret-channel"] {
        assert!(text.contains(named), "{text}");
    }
}
