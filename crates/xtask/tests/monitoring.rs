//! Prometheus and Alertmanager come up as test services, and answer.

use std::time::Duration;

use xtask::monitoring::{Alertmanager, Prometheus};
use xtask::wait;

const LIMIT: Duration = Duration::from_secs(60);

#[test]
fn prometheus_scrapes_itself_and_answers_queries() {
    // It cannot know its own port beforehand, so one server scrapes another.
    let scraped = Prometheus::start("global: { scrape_interval: 1s }\n").unwrap();
    let config = format!(
        "global: {{ scrape_interval: 1s }}\nscrape_configs: [{{ job_name: other, static_configs: [{{ targets: ['{}'] }}] }}]\n",
        scraped.address()
    );
    let prometheus = Prometheus::start(&config).unwrap();
    let series = wait::until("a scrape", LIMIT, || {
        let series = prometheus.query("up{job=\"other\"} == 1").ok()?;
        (!series.is_empty()).then_some(series)
    });
    assert_eq!(series.unwrap()[0]["value"][1], "1", "{}", prometheus.log());
}

#[test]
fn prometheus_says_what_is_wrong_with_a_config() {
    let error = Prometheus::start("scrape_configs: 7\n").unwrap_err();
    assert!(format!("{error:#}").contains("ScrapeConfig"), "{error:#}");
}

#[test]
fn alertmanager_starts_empty() {
    let alertmanager = Alertmanager::start().unwrap();
    assert!(
        alertmanager.alerts().unwrap().is_empty(),
        "{}",
        alertmanager.log()
    );
}
