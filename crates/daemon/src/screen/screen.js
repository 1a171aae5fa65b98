// The war room's screen: keeps the stream of snapshots and shows the newest one.
//
// All that comes from the shop is written as text, never as markup.

import { draw } from "/chart.js";
import { language, preferred, speak, word } from "/words.js";

const QUIET_MS = 10_000; // Without a new event for so long the shop, or its feed, has gone quiet.
const DEAD_MS = 35_000; // Without a snapshot or beat for so long the connection is gone.
const CHART_MINUTES = 100; // Shown of the chart, half an hour of it ahead.
const RATE_MS = 8_000; // Events a second are counted over this long.

const by = (id) => document.getElementById(id);
const state = {
  snapshot: null, // The newest one.
  heard_ms: null, // When something last came, by this machine's clock.
  lost_ms: null, // Since when the connection is gone.
  data_ms: null, // When the count of events last changed.
  counts: [], // [time, events], for the rate.
  campaign: null, // The one that was chosen.
  pages: null, // Ids of the pages that were announced.
};

// ---- words and numbers -------------------------------------------------------------------

const pad = (n) => String(n).padStart(2, "0");
function shopTime(ms) {
  return new Date(ms + (state.snapshot?.utc_offset_min ?? 0) * 60_000);
}
const hm = (ms) => { const at = shopTime(ms); return `${pad(at.getUTCHours())}:${pad(at.getUTCMinutes())}`; };
const hms = (ms) => `${hm(ms)}:${pad(shopTime(ms).getUTCSeconds())}`;
/** With the day where it is not today's. */
function when(text) {
  const ms = Date.parse(text);
  if (Number.isNaN(ms)) return "–";
  const [at, now] = [shopTime(ms), shopTime(state.snapshot.now_ms)];
  const today = at.toISOString().slice(0, 10) === now.toISOString().slice(0, 10);
  return today ? hms(ms) : `${pad(at.getUTCMonth() + 1)}-${pad(at.getUTCDate())} ${hm(ms)}`;
}
const amount = (n) => Math.round(n).toLocaleString(language());
const percent = (n) => `${(n * 100).toFixed(n < 0.0995 ? 1 : 0)} %`;
function number(n) {
  if (n === null || n === undefined) return "–";
  const size = Math.abs(n);
  return n.toLocaleString(language(), { maximumFractionDigits: size >= 100 ? 0 : size >= 1 ? 2 : 3 });
}
function age(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  if (s < 100) return `${s} s`;
  return s < 6000 ? `${Math.floor(s / 60)} min` : `${Math.floor(s / 3600)} h`;
}
function money(minor, currency) {
  if (!currency) return amount(minor);
  try {
    const format = new Intl.NumberFormat(language(), { style: "currency", currency, currencyDisplay: "narrowSymbol", notation: "compact", maximumFractionDigits: 2 });
    const digits = new Intl.NumberFormat("en", { style: "currency", currency }).resolvedOptions().maximumFractionDigits;
    return format.format(minor / 10 ** digits);
  } catch {
    return `${amount(minor)} ${currency}`;
  }
}

/** An element with a class, a text and children. */
function make(name, className, text, ...children) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined && text !== null) made.textContent = text;
  made.append(...children);
  return made;
}
function say(id, text) {
  const at = by(id);
  if (at.textContent !== text) at.textContent = text;
}

// ---- the strip ---------------------------------------------------------------------------

function standing() {
  const now = performance.now();
  const unheard = state.heard_ms === null ? 0 : now - state.heard_ms;
  if (state.snapshot === null) return ["connecting", word("connecting"), word("connecting_detail")];
  if (state.lost_ms !== null || unheard > DEAD_MS) {
    return ["lost", word("lost"), word("lost_detail", { age: age(now - (state.lost_ms ?? state.heard_ms)) })];
  }
  const silent = now - state.data_ms;
  if (state.snapshot.not_ready) return ["quiet", word("starting"), state.snapshot.not_ready];
  if (silent > QUIET_MS) return ["quiet", word("quiet"), word("quiet_detail", { age: age(silent) })];
  const panes = state.snapshot.panes;
  if (panes) return ["live", word("live"), word("share", { held: panes[0], all: panes[1] })];
  return ["live", word("live"), word("live_detail", { age: age(silent) })];
}

function showStanding() {
  const [name, text, detail] = standing();
  const box = by("state");
  if (box.dataset.state !== name) {
    box.dataset.state = name;
    document.body.dataset.state = name;
    if (state.snapshot) showAlerts(state.snapshot);
  }
  say("state-word", text);
  say("state-detail", detail);
  say("rate", rate());
}

/** Events a second over the last seconds, also when nothing comes any more. */
function rate() {
  const now = performance.now();
  const counts = state.counts;
  while (counts.length > 1 && now - counts[1][0] > RATE_MS) counts.shift();
  if (counts.length < 2) return state.snapshot ? "0" : "–";
  const span = Math.max(now - counts[0][0], 500);
  const a_second = ((counts[counts.length - 1][1] - counts[0][1]) * 1000) / span;
  return a_second >= 10 || a_second === 0 ? amount(a_second) : a_second.toFixed(1);
}

/** The time that the events have reached. */
function eventTime(snapshot) {
  const newest = snapshot.sources.map((source) => source.newest_ms).filter((ms) => ms !== null);
  return newest.length > 0 ? Math.min(Math.max(...newest), snapshot.now_ms) : null;
}

function showStrip(snapshot, campaign) {
  say("shop", snapshot.shop ? word("shop", { shop: snapshot.shop }) : "Fenghuo");
  const at = eventTime(snapshot);
  say("clock", at === null ? "--:--:--" : hms(at));
  say("date", at === null ? "" : shopTime(at).toISOString().slice(0, 10));
  const behind = Math.max(0, ...snapshot.sources.map((source) => source.behind_ms));
  say("behind", behind < 100_000 ? `${(behind / 1000).toFixed(1)} s` : age(behind));
  by("behind").classList.toggle("bad", behind > 10_000);
  say("orders", snapshot.totals ? amount(snapshot.totals.orders) : "–");
  say("revenue", snapshot.totals ? money(snapshot.totals.revenue_minor, snapshot.currency) : "–");
  const choice = by("campaigns");
  choice.hidden = snapshot.campaigns.length < 2;
  by("campaign").hidden = !choice.hidden;
  say("campaign", campaign?.name ?? "");
  const names = snapshot.campaigns.map((each) => each.name);
  if (choice.dataset.names !== JSON.stringify(names)) {
    choice.dataset.names = JSON.stringify(names);
    choice.replaceChildren(...names.map((name) => new Option(name, name)));
  }
  if (campaign) choice.value = campaign.name;
}

// ---- what is wrong with Fenghuo itself ----------------------------------------------------

/** Pinned above everything while it stands; the text that says what to do is in English. */
function showConditions(snapshot) {
  by("conditions").hidden = snapshot.conditions.length === 0;
  by("zone").hidden = !snapshot.utc_offset_assumed;
  by("conditions-list").replaceChildren(...snapshot.conditions.map((standing) => {
    const badge = make("span", `badge ${standing.severity}`, `${standing.severity === "page" ? "▲" : "◆"} ${word(standing.severity)}`);
    const key = `is_${standing.name.replace(".", "_")}`;
    const name = word(key) === key ? standing.name : word(key);
    const about = standing.about ? `${name}: ${standing.about}` : name;
    const text = make("span", "text", standing.text);
    text.lang = "en";
    const since = make("time", "", word("since", { time: when(new Date(standing.since_ms).toISOString()) }));
    return make("li", standing.severity, null, badge, make("b", "", about), text, since);
  }));
}

// ---- the panels --------------------------------------------------------------------------

function showSales(snapshot, campaign) {
  const host = by("chart");
  const points = (campaign?.chart ?? []).slice(-CHART_MINUTES);
  if (points.length === 0) {
    host.replaceChildren(make("p", "empty", word("chart_empty")));
  }
  const paid = points.filter((point) => point.paid !== null);
  const last = paid[paid.length - 1];
  if (points.length > 0) {
    const gaps = { paid: amount(last?.paid ?? 0), planned: amount(last?.planned ?? 0) };
    const offset_ms = snapshot.utc_offset_min * 60_000;
    const words = { now: word("now"), label: word("chart_label", gaps) };
    draw(host, points, eventTime(snapshot) ?? snapshot.now_ms, offset_ms, hm, amount, words);
  }
  const [level, ...others] = campaign?.readings ?? [];
  say("level-title", level ? title(level) : word("level"));
  say("level-value", level ? shown(level.as, level.reading) : "–");
  say("level-word", word(!level || level.reading.state === "unknown" ? "level_unknown" : level.reading.state !== "ok" ? "level_quiet" : `level_${level.grade}`));
  by("level").dataset.grade = level?.grade ?? "none";
  const facts = [];
  if (last) facts.push([word("last_minute"), `${amount(last.paid)}`, word("of_plan", { planned: amount(last.planned) })]);
  for (const each of others.slice(0, 2)) facts.push([title(each), shown(each.as, each.reading), each.grade === "page" || each.grade === "warn" ? word(each.grade) : ""]);
  if (campaign?.totals) facts.push([word("campaign_orders"), amount(campaign.totals.orders), ""]);
  by("level-facts").replaceChildren(...facts.flatMap(([name, value, more]) => [make("dt", "", name), make("dd", "", value, make("small", "", more))]));
}

function bar(share, grade) {
  const track = make("div", `track ${grade}`);
  const fill = make("i");
  fill.style.width = `${Math.max(0, Math.min(1, share)) * 100}%`;
  track.append(fill);
  return track;
}

/** How a signal is called: by the catalogue, in the language of the screen where it has that. */
const title = (of) => of.title[language()] ?? of.title.en ?? of.signal;

/** A reading's value, in the form that the catalogue gives it. */
function shown(form, reading) {
  if (!reading || reading.state === "unknown") return word("not_told");
  if (reading.state !== "ok" && form !== "count") return word("too_few");
  const value = reading.value;
  if (form === "percent") return percent(value);
  if (form === "count") return amount(value);
  if (form === "seconds") return age(value * 1000);
  if (form !== "hours") return number(value);
  if (value >= 1_000) return word("long");
  if (value <= 0) return word("sold_out");
  return value < 1 ? word("minutes", { value: Math.max(1, Math.round(value * 60)) })
    : word("hours", { value: value < 10 ? value.toFixed(1) : amount(value) });
}

const MARKS = { page: "▲", warn: "◆" };

/** The worst readings of one signal. */
function table(of) {
  const most = Math.max(...of.rows.map((row) => Math.abs(row.reading.value)), 1e-9);
  const rows = of.rows.map((row) => {
    const odd = row.reading.surprise > 0 && MARKS[row.grade] ? `${word("oddness")} ${amount(row.reading.surprise)}` : "";
    const sample = row.reading.n > 0 ? word("of", { n: amount(row.reading.n) }) : "";
    const more = of.beside ? "" : odd || sample;
    const value = make("span", `value ${row.grade}`, null, make("i", "mark", MARKS[row.grade] ?? ""), shown(of.as, row.reading), make("small", "", more));
    const name = make("th", "name", row.name);
    name.title = `${row.kind.replace(",", " · ")} ${row.name}`;
    const made = make("tr", "", null, name, make("td", "bar", null, bar(row.bar ?? row.reading.value / most, row.grade), value));
    if (of.beside) made.append(make("td", "number", shown(of.beside.as, row.beside)));
    return made;
  });
  const head = make("h3", "", null, make("span", "", title(of)));
  if (of.beside) head.append(make("small", "", title(of.beside)));
  else if (of.unjudged > 0) head.append(make("small", "", word("unjudged", { count: amount(of.unjudged) })));
  const made = make("table", "bars", null, make("tbody", "", null, ...rows));
  const block = make("div", "", null, head, made);
  block.dataset.signal = of.signal;
  return block;
}

/** Hides the rows and tables that their panel would cut off; the worst come first. Each table keeps a
 * share of the room, so that a bad one does not hide that another is bad too. */
function fit(host) {
  const panel = host.closest(".panel");
  const blocks = [...host.children];
  const tables = blocks.map((block) => [...block.querySelectorAll("tr")]);
  let left = Math.max(...tables.map((rows) => rows.length), 0);
  const over = () => host.lastElementChild && host.scrollHeight > host.clientHeight + 1;
  if (getComputedStyle(panel).overflowY === "visible") left = 5;
  for (; left >= 1; left -= 1) {
    for (const rows of tables) rows.forEach((row, at) => { row.hidden = at >= left; });
    if (!over()) return;
  }
  for (const block of blocks.reverse()) {
    if (!over()) return;
    block.hidden = true;
  }
}

function showTables(id, tables) {
  const host = by(id);
  host.hidden = tables.length === 0;
  by(`${id}-empty`).hidden = tables.length > 0;
  host.replaceChildren(...tables.map(table));
  fit(host);
}

/** How the pages of an episode fared: the mark, its words and its class. */
function deliveries(episode) {
  const of = episode.deliveries.filter((delivery) => delivery.action === "trigger");
  if (of.some((delivery) => delivery.outcome === "delivered")) return ["✓", word("delivered"), "good"];
  if (of.some((delivery) => delivery.outcome === "sending")) return ["…", word("sending"), "none"];
  if (of.length > 0) return ["✗", word("undelivered"), "page"];
  return ["–", word("unsent"), "none"];
}

/** What an episode is about: its kind, small, and its names. */
function entity(episode) {
  const { kind, ...names } = episode.entity;
  const text = Object.values(names).join(" · ");
  return make("b", "entity", null, make("small", "", text ? kind.replace(",", " · ") : ""), text || episode.name);
}

function card(episode) {
  const [mark, text, grade] = deliveries(episode);
  const channels = [...new Set(episode.deliveries.map((delivery) => delivery.channel))].join(", ");
  const badge = make("span", `badge ${episode.severity}`, `${episode.severity === "page" ? "▲" : "◆"} ${word(episode.severity)}`);
  const since = make("time", "", word("since", { time: when(episode.fired_at ?? episode.pending_at) }));
  const title = make("div", "title", null, badge, entity(episode), make("span", `state-of ${episode.state}`, word(episode.state)), since);
  const foot = make("div", "foot", null,
    make("span", "", `${word("playbook")}: `, make("b", "", episode.playbook ?? word("nobody"))),
    make("span", "", `${word("owner")}: `, make("b", "", episode.owner_role ?? word("nobody"))),
    make("span", `sent ${grade}`, `${mark} ${text}${channels ? ` (${channels})` : ""}`));
  return make("li", `card ${episode.severity} ${episode.state}`, null, title, make("p", "summary", episode.summary), foot);
}

/** An alert like the one above it: only what differs. */
function line(episode) {
  const [mark, text, grade] = deliveries(episode);
  const since = make("time", "", word("since", { time: when(episode.fired_at ?? episode.pending_at) }));
  const sent = make("span", `sent ${grade}`, mark);
  sent.title = text;
  sent.setAttribute("aria-label", text);
  return make("li", `line ${episode.severity} ${episode.state}`, null, entity(episode), make("span", `state-of ${episode.state}`, word(episode.state)), since, sent);
}

/** Alerts of one rule and severity stand together: one in full, the others as lines below it. */
function group({ open, alerts }) {
  const [first, ...alike] = alerts;
  const lines = alike.map(line);
  const more = open - alerts.length;
  if (more > 0) lines.push(make("li", "line more", word("more", { count: amount(more) })));
  return [card(first), ...lines];
}

function past(episode) {
  const [mark, text, grade] = deliveries(episode);
  const sign = make("i", `mark ${episode.severity}`, episode.severity === "page" ? "▲" : "◆");
  sign.title = word(episode.severity);
  const span = `${when(episode.fired_at ?? episode.pending_at)} – ${when(episode.resolved_at)}`;
  return make("li", "", null, sign, entity(episode), make("span", "rule", episode.rule), make("time", "", span), make("span", `sent ${grade}`, `${mark} ${text}`));
}

function showAlerts(snapshot) {
  const lost = by("state").dataset.state === "lost";
  by("alerts").replaceChildren(...snapshot.groups.flatMap(group));
  by("alerts-empty").hidden = snapshot.groups.length > 0;
  say("alerts-empty", word(lost ? "alerts_empty_stale" : "alerts_empty"));
  const open = [["page", snapshot.pages_open], ["warn", snapshot.warnings_open]];
  by("counts").replaceChildren(...open.map(([severity, count]) => make("span", `badge ${count ? severity : "none"}`, `${severity === "page" ? "▲" : "◆"} ${amount(count)} ${word(severity)}`)));
  by("past").replaceChildren(...snapshot.past.map(past));
  by("past-empty").hidden = snapshot.past.length > 0;
}

/** Tells screen readers of pages that were not there before. */
function announce(snapshot) {
  const pages = snapshot.groups.filter((each) => each.severity === "page").flatMap((each) => each.alerts);
  const fresh = state.pages === null ? [] : pages.filter((episode) => !state.pages.has(episode.id));
  state.pages = new Set(pages.map((episode) => episode.id));
  if (fresh.length > 0) say("announce", fresh.map((episode) => word("new_page", { summary: `${episode.name}. ${episode.summary}` })).join(" "));
  document.title = snapshot.pages_open > 0 ? `▲ ${snapshot.pages_open} – Fenghuo` : "Fenghuo";
}

function show(snapshot) {
  const campaign = snapshot.campaigns.find((each) => each.name === state.campaign) ?? snapshot.campaigns[0];
  showStrip(snapshot, campaign);
  showConditions(snapshot);
  showStanding();
  showSales(snapshot, campaign);
  // Of what can be judged; the catalogue says what belongs to the stock.
  const judged = snapshot.tables.filter((of) => of.rows.length > 0);
  showTables("stock", judged.filter((of) => of.panel === "stock"));
  showTables("signals", judged.filter((of) => of.panel !== "stock"));
  showAlerts(snapshot);
  announce(snapshot);
}

// ---- the stream --------------------------------------------------------------------------

const KEY = "fenghuo.token";

function take(event, data) {
  state.heard_ms = performance.now();
  state.lost_ms = null;
  if (event === "snapshot") {
    const snapshot = JSON.parse(data);
    if (snapshot.events !== state.snapshot?.events) state.data_ms = state.heard_ms;
    state.counts.push([state.heard_ms, snapshot.events]);
    state.snapshot = snapshot;
    by("room").hidden = false;
    by("door").hidden = true;
    show(snapshot);
  }
}

/** Reads server-sent events from a response: unlike EventSource, a fetch can carry a token. */
async function read(response) {
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    rest += value;
    const parts = rest.split("\n\n");
    rest = parts.pop();
    for (const part of parts) {
      const field = (name) => part.split("\n").find((line) => line.startsWith(`${name}:`))?.slice(name.length + 1).trim();
      const data = field("data");
      if (data) take(field("event"), data);
    }
  }
}

function lock(wrong) {
  sessionStorage.removeItem(KEY);
  by("room").hidden = true;
  by("door").hidden = false;
  say("door-error", wrong ? word("wrong_token") : "");
  by("token").focus();
}

async function listen() {
  let pause_ms = 500;
  for (;;) {
    const token = sessionStorage.getItem(KEY);
    try {
      const headers = token ? { Authorization: `Bearer ${token}` } : {};
      const first = await fetch("/api/v1/snapshot", { headers, cache: "no-store" });
      if (first.status === 401) {
        lock(token !== null);
        return;
      }
      if (first.ok) take("snapshot", await first.text());
      const response = await fetch("/api/v1/live", { headers, cache: "no-store" });
      if (response.ok) {
        pause_ms = 500;
        await read(response);
      }
    } catch {
      // Whatever broke it, the screen says that it is broken and tries again.
    }
    state.lost_ms ??= performance.now();
    showStanding();
    await new Promise((resolve) => setTimeout(resolve, pause_ms));
    pause_ms = Math.min(pause_ms * 2, 5_000);
  }
}

// ---- the beginning -----------------------------------------------------------------------

function say_all() {
  document.documentElement.lang = language();
  for (const at of document.querySelectorAll("[data-word]")) at.textContent = word(at.dataset.word);
  by("language").value = language();
  by("language").setAttribute("aria-label", word("language"));
  by("campaigns").setAttribute("aria-label", word("campaign_choice"));
  showStanding();
  if (state.snapshot) show(state.snapshot);
}

by("language").addEventListener("change", (event) => {
  speak(event.target.value);
  localStorage.setItem("fenghuo.language", event.target.value);
  say_all();
});
by("campaigns").addEventListener("change", (event) => {
  state.campaign = event.target.value;
  show(state.snapshot);
});
by("door").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, by("token").value.trim());
  by("token").value = "";
  listen();
});
new ResizeObserver(() => state.snapshot && show(state.snapshot)).observe(document.body);
setInterval(showStanding, 500);
speak(preferred(localStorage.getItem("fenghuo.language"), navigator.language));
say_all();
listen();
