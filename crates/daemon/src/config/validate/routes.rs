//! `[[channel]]` and `[[route]]`: who can be told, and who is told of what.
//!
//! What a channel may say is the notifier's business; here its name is what counts.

use fenghuo_engine::{Route, Routes};
use fenghuo_notify::{ChannelConfig, ChannelKind, Colour};
use fenghuo_signal::{Catalogue, Kind};

use super::super::document::Document;
use super::super::raw::Raw;
use super::super::{ConfigError, Shop};

const ROUTES_MAX: usize = 256;

/// Checks the channels.
pub fn channels(
    at: &Document<'_>,
    raw: &Raw,
    shop: &Shop,
) -> Result<Vec<ChannelConfig>, ConfigError> {
    let mut channels = ChannelConfig::from_tables(at.file(), &raw.channel)?;
    if channels.is_empty() && raw.route.is_empty() {
        // Without a word about pages they go where a person sees them at least.
        let kind = ChannelKind::Log {
            colour: Colour::Auto,
            utc_offset_min: shop.utc_offset_min,
        };
        channels.push(ChannelConfig::new("log", kind));
    }
    Ok(channels)
}

/// Checks the routes; what holds but is hardly meant goes to `warnings`.
pub fn routes(
    at: &Document<'_>,
    raw: &Raw,
    channels: &[ChannelConfig],
    catalogue: &Catalogue,
    warnings: &mut Vec<String>,
) -> Result<Routes, ConfigError> {
    if raw.route.is_empty() {
        if let Some(channel) = raw.channel.first() {
            let name = channel.get("name").and_then(toml::Value::as_str);
            let problem = format!(
                "is missing, so that no page would reach a channel; expected for example \
                 [[route]] with channels = [{:?}]",
                name.unwrap_or_default()
            );
            return Err(at.error("route", problem));
        }
        let all = Route {
            channels: channels
                .iter()
                .map(|channel| channel.name.clone())
                .collect(),
            ..Route::default()
        };
        return Ok(Routes(vec![all]));
    }
    if raw.route.len() > ROUTES_MAX {
        let problem = format!(
            "there are {} routes; expected at most {ROUTES_MAX}",
            raw.route.len()
        );
        return Err(at.error("route", problem));
    }
    for (index, route) in raw.route.iter().enumerate() {
        check_route(at, &format!("route[{index}]"), route, channels, catalogue)?;
    }
    let takes_all = |route: &Route| {
        let all = Route {
            channels: route.channels.clone(),
            fallback: route.fallback.clone(),
            ..Route::default()
        };
        *route == all
    };
    match raw.route.iter().position(takes_all) {
        None => warnings
            .push("no route takes every alert: what matches none is on the screen only".to_owned()),
        Some(index) if index + 1 < raw.route.len() => warnings.push(format!(
            "route[{index}] takes every alert: those after it are never reached"
        )),
        Some(_) => {}
    }
    for channel in channels {
        let uses = |route: &Route| {
            let mut named = route.channels.iter().chain(&route.fallback);
            named.any(|name| *name == channel.name)
        };
        let beats = raw.watchdog.as_ref().and_then(|dog| dog.channel.as_ref());
        if !raw.route.iter().any(uses) && beats != Some(&channel.name) {
            warnings.push(format!("no route names the channel {:?}", channel.name));
        }
    }
    Ok(Routes(raw.route.clone()))
}

fn check_route(
    at: &Document<'_>,
    path: &str,
    route: &Route,
    channels: &[ChannelConfig],
    catalogue: &Catalogue,
) -> Result<(), ConfigError> {
    if route.channels.is_empty() {
        let problem = "is empty; expected the name of at least one channel";
        return Err(at.error(&format!("{path}.channels"), problem));
    }
    for (key, names) in [("channels", &route.channels), ("fallback", &route.fallback)] {
        for (index, name) in names.iter().enumerate() {
            if !channels.iter().any(|channel| channel.name == *name) {
                let known = channels.iter().map(|channel| channel.name.as_str());
                return Err(at.unknown(&format!("{path}.{key}[{index}]"), name, known));
            }
        }
    }
    let signals = catalogue.signal_names();
    for (index, name) in route.signal.iter().enumerate() {
        if !name.contains('*') && !signals.contains(&name.as_str()) {
            let key = format!("{path}.signal[{index}]");
            return Err(at.unknown(&key, name, signals.iter().copied()));
        }
    }
    let mut parts: Vec<&str> = Vec::new();
    for kind in Kind::all() {
        let (first, second) = kind.parts();
        parts.extend([Some(first), second].into_iter().flatten());
    }
    parts.sort_unstable();
    parts.dedup();
    for part in route.entity.keys() {
        if !parts.contains(&part.as_str()) {
            return Err(at.unknown(
                &format!("{path}.entity.{part}"),
                part,
                parts.iter().copied(),
            ));
        }
    }
    Ok(())
}
