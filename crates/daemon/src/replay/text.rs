//! The report for people: counts, what was sold, and a table of episodes in local time.

use std::fmt::Write as _;
use std::time::Duration;

use jiff::Timestamp;

use super::report::{Amounts, Episode, Report};

/// Campaigns that are shown; the others are in the form for programs.
const CAMPAIGNS_MAX: usize = 10;

/// The report, with times at this distance from UTC.
pub fn report(report: &Report, utc_offset_min: i32) -> String {
    let mut out = String::new();
    // Writing into memory cannot fail.
    let _ = write(report, utc_offset_min, &mut out);
    out
}

fn write(report: &Report, utc_offset_min: i32, out: &mut String) -> std::fmt::Result {
    let local = |ms: i64| local(ms, utc_offset_min);
    let events = &report.events;
    if events.read > 0 {
        let (began_ms, ended_ms) = report.span_ms;
        writeln!(out, "from      {} to {}", local(began_ms), local(ended_ms))?;
    }
    writeln!(
        out,
        "events    {} read: {} accepted, {} rejected, {} duplicate, {} late",
        events.read, events.accepted, events.rejected, events.duplicate, events.late
    )?;
    for (reason, events) in &report.reasons {
        writeln!(out, "          {events} {reason}")?;
    }
    if let Some(rows) = &report.rows {
        let (rejected, skipped) = (rows.rejected, rows.skipped);
        writeln!(out, "rows      {rejected} rejected, {skipped} passed over")?;
    }
    amounts("shop      ", &report.totals.shop, out)?;
    let skus = report.totals.skus.len();
    writeln!(out, "skus      {skus}")?;
    let mut campaigns: Vec<_> = report.totals.campaigns.iter().collect();
    campaigns.sort_by_key(|campaign| std::cmp::Reverse(campaign.amounts.revenue_minor));
    for campaign in campaigns.iter().take(CAMPAIGNS_MAX) {
        let name = format!("campaign  {}: ", campaign.campaign);
        amounts(&name, &campaign.amounts, out)?;
    }
    if let Some(more) = campaigns
        .len()
        .checked_sub(CAMPAIGNS_MAX)
        .filter(|n| *n > 0)
    {
        writeln!(out, "campaign  {more} more")?;
    }
    writeln!(out, "episodes  {}", report.episodes.len())?;
    if !report.episodes.is_empty() {
        episodes(&report.episodes, &local, out)?;
    }
    Ok(())
}

fn amounts(name: &str, amounts: &Amounts, out: &mut String) -> std::fmt::Result {
    let Amounts {
        orders,
        units,
        revenue_minor,
        cancelled_orders,
        cancelled_units,
        cancelled_revenue_minor,
    } = amounts;
    writeln!(
        out,
        "{name}{orders} orders, {units} units, revenue {revenue_minor} in minor units; cancelled \
         {cancelled_orders}, {cancelled_units}, {cancelled_revenue_minor}"
    )
}

fn episodes(
    episodes: &[Episode],
    local: &dyn Fn(i64) -> String,
    out: &mut String,
) -> std::fmt::Result {
    let header = ["fired", "severity", "rule", "entity", "peak", "open for"].map(str::to_owned);
    let mut table = vec![header];
    table.extend(episodes.iter().map(|episode| {
        let lasted = episode.resolved_at_ms.zip(episode.fired_at_ms);
        let lasted = lasted.and_then(|(to, from)| u64::try_from(to - from).ok());
        [
            episode.fired_at_ms.map(local).unwrap_or_default(),
            episode.severity.as_str().to_owned(),
            episode.rule.clone(),
            episode.entity.to_string(),
            format!("{:.4}", episode.peak),
            lasted.map_or_else(
                || "still open".to_owned(),
                |ms| humantime::format_duration(Duration::from_millis(ms)).to_string(),
            ),
        ]
    }));
    let mut widths = [0; 6];
    for row in &table {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    for row in &table {
        let mut line = String::from("  ");
        for (cell, width) in row.iter().zip(widths) {
            write!(line, "{cell:width$}  ")?;
        }
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// Local time to the second; what no calendar holds as its milliseconds.
fn local(ms: i64, utc_offset_min: i32) -> String {
    let local_ms = ms.saturating_add(i64::from(utc_offset_min) * 60_000);
    Timestamp::from_millisecond(local_ms).map_or_else(
        |_| format!("{ms} ms"),
        |time| time.strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}
