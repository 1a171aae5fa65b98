//! `[[channel]]` and `[[route]]`: who can be told, and who is told of what.
//!
//! What a channel may say is the notifier's business; here its name is what counts.

use fenghuo_engine::{Route, Routes};
use fenghuo_notify::{ChannelConfig, ChannelKind, Colour};
use fenghuo_signal::{Catalogue, Kind};

use super::super::Shop;
use super::super::document::Document;
use super::super::raw::Raw;
use super::is_catalogue_unsure;

const ROUTES_MAX: usize = 256;

/// Checks the channels.
pub fn channels(at: &Document<'_>, raw: &Raw, shop: &Shop) -> Vec<ChannelConfig> {
    let mut channels = Vec::new();
    match ChannelConfig::from_tables(at.file(), &raw.channel) {
        Ok(read) => channels = read,
        Err(errors) => {
            for error in errors {
                let key = match &error.place {
                    None => "channel".to_owned(),
                    Some((index, key)) if key.is_empty() => format!("channel[{index}]"),
                    Some((index, key)) => format!("channel[{index}].{key}"),
                };
                at.note(&key, error);
            }
        }
    }
    if raw.channel.is_empty() && raw.route.is_empty() {
        // Without a word about pages they go where a person sees them at least.
        let kind = ChannelKind::Log {
            colour: Colour::Auto,
            utc_offset_min: shop.utc_offset_min,
        };
        channels.push(ChannelConfig::new("log", kind));
    }
    channels
}

/// Notes a channel that is named and that there is not. One that is there with mistakes is there.
pub fn check_channel(
    at: &Document<'_>,
    raw: &Raw,
    channels: &[ChannelConfig],
    key: &str,
    name: &str,
) {
    let here = raw
        .channel
        .iter()
        .map(|channel| channel.get("name")?.as_str());
    let here: Vec<Option<&str>> = here.collect();
    let is_here = |of: &ChannelConfig| of.name == name;
    if here.contains(&Some(name)) || channels.iter().any(is_here) {
        return;
    }
    // It may be the one whose name cannot be read.
    let is_unsure = |index: usize| at.is_unsure(&format!("channel[{index}].name"));
    let has_unsure = here.contains(&None) || (0..here.len()).any(is_unsure);
    if !has_unsure && !at.is_misspelt("channel") {
        let made = channels.iter().map(|channel| Some(channel.name.as_str()));
        let known = if here.is_empty() {
            made.collect()
        } else {
            here
        };
        at.unknown(key, name, known.into_iter().flatten());
    }
}

/// Checks the routes; what holds but is hardly meant goes to `warnings`.
pub fn routes(
    at: &Document<'_>,
    raw: &Raw,
    channels: &[ChannelConfig],
    catalogue: &Catalogue,
    warnings: &mut Vec<String>,
) -> Routes {
    if raw.route.is_empty() {
        // With channels that cannot be used yet, where pages go is the next question.
        if let Some(channel) = raw.channel.first()
            && !at.is_told("channel")
        {
            let name = channel.get("name").and_then(toml::Value::as_str);
            let problem = format!(
                "is missing, so that no page would reach a channel; expected for example \
                 [[route]] with channels = [{:?}]",
                name.unwrap_or_default()
            );
            at.mistake("route", problem);
        }
        let all = Route {
            channels: channels
                .iter()
                .map(|channel| channel.name.clone())
                .collect(),
            ..Route::default()
        };
        return Routes(vec![all]);
    }
    if raw.route.len() > ROUTES_MAX {
        let problem = format!(
            "there are {} routes; expected at most {ROUTES_MAX}",
            raw.route.len()
        );
        at.mistake("route", problem);
    }
    for (index, route) in raw.route.iter().take(ROUTES_MAX).enumerate() {
        check_route(at, raw, (index, route), channels, catalogue);
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
    Routes(raw.route.clone())
}

fn check_route(
    at: &Document<'_>,
    raw: &Raw,
    (index, route): (usize, &Route),
    channels: &[ChannelConfig],
    catalogue: &Catalogue,
) {
    let path = format!("route[{index}]");
    if route.channels.is_empty() {
        let problem = "is empty; expected the name of at least one channel";
        at.mistake(&format!("{path}.channels"), problem);
    }
    for (key, names) in [("channels", &route.channels), ("fallback", &route.fallback)] {
        for (index, name) in names.iter().enumerate() {
            check_channel(at, raw, channels, &format!("{path}.{key}[{index}]"), name);
        }
    }
    let signals = catalogue.signal_names();
    for (index, name) in route.signal.iter().enumerate() {
        let is_known = name.contains('*') || signals.contains(&name.as_str());
        if !is_known && !is_catalogue_unsure(at) {
            let key = format!("{path}.signal[{index}]");
            at.unknown(&key, name, signals.iter().copied());
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
            let key = format!("{path}.entity.{part}");
            at.unknown(&key, part, parts.iter().copied());
        }
    }
}
