//! `fenghuo demo`: a simulated flash sale with four troubles, through the real stages.
//!
//! Owns the pace and the account at the end. What goes wrong is the simulation's business, what
//! is found the stages'.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use anyhow::Context as _;
use fenghuo_alert::{Severity, Transition};
use fenghuo_engine::record::{Intent, PageAction};
use fenghuo_engine::{InForce, Outcome, Playback, Route, Routes, Set, TopologyConfig, View};
use fenghuo_event::Timestamp;
use fenghuo_notify::{ChannelConfig, Means, Notifier, Terminal};
use fenghuo_sim::{Shop, ShopConfig, Trouble, TroubleKind};

use crate::cli;
use crate::clock::{self, Watch};
use crate::config::Config;
use crate::deliver;
use crate::exit::Exit;
use crate::http::{self, Shown};
use crate::identity::{Identity, Known};

const SECOND_MS: i64 = 1_000;
const MINUTE_MS: i64 = 60 * SECOND_MS;

/// The channel that prints pages.
const TERMINAL: &str = "terminal";

/// What was paged, and when the sale's clock said so.
struct Paged {
    at_ms: i64,
    action: PageAction,
    severity: Severity,
    alert: Transition,
}

/// Runs the demo to its end.
pub fn run(args: &cli::Demo) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    let mut shop_config = ShopConfig {
        seed: args.seed,
        ..ShopConfig::default()
    };
    shop_config.troubles = Trouble::demo(&shop_config);
    let show_from_ms = shop_config.flash_ms - 2 * MINUTE_MS;
    let show_until_ms = shop_config.flash_ms + 10 * MINUTE_MS;

    let topology = topology(&shop_config)?;
    let mut playback = Playback::open(&topology, shop_config.start_ms, SECOND_MS)?;
    let now_ms = Arc::new(AtomicI64::new(shop_config.start_ms));
    let view = Arc::clone(playback.topology().view());
    let listener = runtime
        .block_on(tokio::net::TcpListener::bind(args.listen))
        .with_context(|| {
            format!(
                "--listen {}: cannot listen there; name another port",
                args.listen
            )
        })?;
    let address = listener.local_addr()?;
    let shown = Shown {
        set: topology.set.clone(),
        ..shown(&view, &shop_config, Arc::clone(&now_ms), http::recorder()?)
    };
    let server = runtime.spawn(http::serve(
        listener,
        Arc::new(shown),
        std::future::pending::<()>(),
    ));

    let colour = std::io::stdout().is_terminal();
    let terminal = Terminal::new(Box::new(std::io::stdout()), colour);
    let channels = ChannelConfig::parse(
        "demo",
        &format!(
            "[[channel]]\nname = {TERMINAL:?}\ntype = \"log\"\nrate_per_minute = 6000\nutc_offset = \"+08:00\"\n"
        ),
    )?;
    let notifier = Notifier::with(
        channels,
        Means {
            terminal,
            ..Means::system()?
        },
    )?;

    println!(
        "fenghuo demo: a flash sale with four troubles in it, seed {}",
        args.seed
    );
    println!("screen: http://{address}/   metrics: http://{address}/metrics\n");
    let mut sale = Sale {
        shop: Shop::new(shop_config.clone()).peekable(),
        playback,
        now_ms,
        paged: Vec::new(),
    };
    let shop_name = shop_config.shop_id.clone();
    let mut tell = |intent: &Intent| {
        let page = deliver::page(intent, &shop_name, Some(format!("http://{address}/")));
        runtime.block_on(deliver::send(&notifier, intent, page))
    };

    println!("the two days before, at full speed …");
    let watch = Watch::start();
    while sale.now() < show_from_ms {
        sale.advance(sale.now() + 10 * SECOND_MS, &mut tell)?;
    }
    let events: u64 = view.events().iter().map(|(_, _, events)| events).sum();
    println!(
        "{events} events in {:.1} s; now 19:58 to 20:10\n",
        watch.elapsed().as_secs_f64()
    );

    let shown_ms = (show_until_ms - show_from_ms) as f64;
    let factor = shown_ms / (args.span.as_secs_f64() * 1e3) * args.speed;
    let watch = Watch::start();
    while sale.now() < show_until_ms {
        clock::wait(std::time::Duration::from_millis(40));
        let passed_ms = (watch.elapsed().as_secs_f64() * 1e3 * factor) as i64;
        sale.advance((show_from_ms + passed_ms).min(show_until_ms), &mut tell)?;
    }
    summary(&view, &shop_config, &sale.paged)?;
    server.abort();
    Ok(Exit::Done)
}

/// The simulated shop and the stages that watch it.
struct Sale {
    shop: std::iter::Peekable<Shop>,
    playback: Playback,
    now_ms: Arc<AtomicI64>,
    paged: Vec<Paged>,
}

impl Sale {
    fn now(&self) -> i64 {
        self.playback.now_ms()
    }

    /// Lets the sale go on to `to_ms`, and sends what is to be paged.
    fn advance(
        &mut self,
        to_ms: i64,
        tell: &mut dyn FnMut(&Intent) -> fenghuo_engine::record::DeliveryOutcome,
    ) -> anyhow::Result<()> {
        while let Some((at_ms, event)) = self.shop.next_if(|(at_ms, _)| *at_ms <= to_ms) {
            let bytes = fenghuo_event::to_protobuf(&event);
            let stream = fenghuo_event::decode(&bytes, None)
                .ok()
                .map(|event| event.stream());
            self.playback.feed(at_ms, stream, None, bytes)?;
            self.page(tell);
        }
        self.playback.pass(to_ms)?;
        self.page(tell);
        self.now_ms.store(self.now(), Ordering::Relaxed);
        Ok(())
    }

    fn page(&mut self, tell: &mut dyn FnMut(&Intent) -> fenghuo_engine::record::DeliveryOutcome) {
        let at_ms = self.now();
        let dispatch = self.playback.topology().dispatch();
        for intent in dispatch.take_ready() {
            let outcome = tell(&intent);
            dispatch.outcome(outcome);
            self.paged.push(Paged {
                at_ms,
                action: intent.action,
                severity: intent.severity,
                alert: (*intent.alert).clone(),
            });
        }
    }
}

fn topology(shop: &ShopConfig) -> anyhow::Result<TopologyConfig> {
    let mut topology = Config::without_file()?.topology(shop.start_ms);
    topology.ingest.shop = Some(shop.shop_id.clone());
    topology.routes = Routes(vec![Route {
        channels: vec![TERMINAL.to_owned()],
        ..Route::default()
    }]);
    Ok(topology)
}

fn shown(
    view: &Arc<View>,
    shop: &ShopConfig,
    now_ms: Arc<AtomicI64>,
    prometheus: metrics_exporter_prometheus::PrometheusHandle,
) -> Shown {
    Shown {
        connections_max: usize::MAX,
        set: InForce::new(Set::built_in()),
        view: Arc::clone(view),
        identity: Arc::new(Identity::new(Known {
            shop: Some(shop.shop_id.clone()),
            currency: Some("CNY".to_owned()),
            utc_offset_min: Some((shop.utc_offset_ms / MINUTE_MS) as i32),
        })),
        token: None,
        public_url: None,
        intake: None,
        intake_token: None,
        metrics_open: false,
        now_ms: Arc::new(move || now_ms.load(Ordering::Relaxed)),
        ready: Arc::new(|| Ok(())),
        conditions: Arc::default(),
        healthy: Arc::new(|| Ok(())),
        held: Arc::new(Vec::new),
        elsewhere: Arc::new(|| Ok(Vec::new())),
        // All stages run in this process.
        panes_partitions: 0,
        prometheus,
        limits: Vec::new(),
        top_entities: 50,
    }
}

/// The signals by which a trouble may be found.
fn found_by(kind: TroubleKind) -> &'static [&'static str] {
    match kind {
        TroubleKind::MistypedPrice { .. } => &["price.floor"],
        TroubleKind::StockOut { .. } => &["stock.hours_of_cover", "stock.oversell"],
        TroubleKind::CourierStopped { .. } => &["ship.first_scan"],
        TroubleKind::DeadCheckout => &["sales.drought", "sales.pace"],
    }
}

/// The account: what happened, what was found, and how long it took.
fn summary(view: &View, shop: &ShopConfig, paged: &[Paged]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let all: u64 = view.events().iter().map(|(_, _, events)| events).sum();
    let taken: u64 = view
        .events()
        .iter()
        .filter(|(_, outcome, _)| *outcome == Outcome::Accepted)
        .map(|(_, _, events)| events)
        .sum();
    let triggers = || {
        paged
            .iter()
            .filter(|p| p.action == PageAction::Trigger && p.severity == Severity::Page)
    };
    writeln!(
        out,
        "\n{all} events, {taken} accepted; {} pages\n",
        triggers().count()
    )?;
    writeln!(
        out,
        "{:<26} {:<30} {:<22} {:>9}",
        "trouble", "where", "found by", "delay"
    )?;
    let mut told: Vec<&str> = Vec::new();
    for trouble in &shop.troubles {
        let target = trouble.target(shop);
        let page = triggers().find(|page| {
            found_by(trouble.kind).contains(&page.alert.signal.as_str())
                && page.alert.entity.to_string() == target
                && page.at_ms >= trouble.start_ms
        });
        let (by, delay) = match page {
            Some(page) => {
                told.push(&page.alert.episode);
                (
                    page.alert.signal.as_str(),
                    span(page.at_ms - trouble.start_ms),
                )
            }
            None => ("not found", String::new()),
        };
        writeln!(
            out,
            "{:<26} {target:<30} {by:<22} {delay:>9}",
            trouble.name()
        )?;
    }
    let others: Vec<&Paged> = triggers()
        .filter(|page| !told.contains(&page.alert.episode.as_str()))
        .collect();
    if !others.is_empty() {
        writeln!(out, "\nfurther pages:")?;
    }
    for page in others {
        let at = Timestamp(page.at_ms + shop.utc_offset_ms).to_string();
        let at = at.get(5..19).unwrap_or(&at).replace('T', " ");
        writeln!(
            out,
            "  {at}  {:<22} {}",
            page.alert.signal, page.alert.entity
        )?;
    }
    Ok(())
}

/// A time for people.
fn span(ms: i64) -> String {
    let seconds = ms as f64 / 1e3;
    match seconds {
        s if s < 120.0 => format!("{s:.1} s"),
        s if s < 7_200.0 => format!("{:.1} min", s / 60.0),
        s => format!("{:.1} h", s / 3_600.0),
    }
}
