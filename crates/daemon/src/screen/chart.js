// The big picture: paid orders a minute against the plan, drawn as SVG.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 58, right: 20, top: 22, bottom: 30 };

function element(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}

/** A round step that cuts `most` into at most `parts`. */
function step(most, parts) {
  const raw = Math.max(most, 1) / parts;
  const power = 10 ** Math.floor(Math.log10(raw));
  const nice = [1, 2, 2.5, 5, 10].find((factor) => factor * power >= raw) * power;
  return Math.max(nice, 1);
}

/** Minutes between two labels of the time axis. */
function minutesApart(span_min, width) {
  const parts = Math.max(2, Math.floor(width / 110));
  return [1, 2, 5, 10, 15, 30, 60, 120].find((minutes) => span_min / minutes <= parts) ?? 240;
}

/**
 * Draws into `host`. `points` are {at_ms, planned, paid}; `time(ms)` writes hours and minutes,
 * `amount(n)` a count; `words` has `now` and `label`.
 */
export function draw(host, points, now_ms, offset_ms, time, amount, words) {
  const width = Math.max(host.clientWidth, 280);
  const height = Math.max(host.clientHeight, 180);
  const minute = 60_000;
  const from = points[0].at_ms;
  const to = points[points.length - 1].at_ms + minute;
  const most = Math.max(...points.map((p) => Math.max(p.planned, p.paid ?? 0)));
  const gap = step(most, height > 320 ? 5 : 3);
  const top = Math.max(gap, Math.ceil((most * 1.04) / gap) * gap);
  const x = (ms) => MARGIN.left + ((ms - from) / (to - from)) * (width - MARGIN.left - MARGIN.right);
  const y = (n) => height - MARGIN.bottom - (n / top) * (height - MARGIN.top - MARGIN.bottom);

  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  svg.setAttribute("role", "img");
  svg.setAttribute("aria-label", words.label);

  for (let n = 0; n <= top; n += gap) {
    element(svg, "line", { class: n === 0 ? "base" : "grid", x1: MARGIN.left, x2: width - MARGIN.right, y1: y(n), y2: y(n) });
    element(svg, "text", { class: "tick", x: MARGIN.left - 9, y: y(n) + 4, "text-anchor": "end" }, amount(n));
  }
  const apart = minutesApart((to - from) / minute, width) * minute;
  // Whole hours of the shop's own clock.
  for (let ms = Math.ceil((from + offset_ms) / apart) * apart - offset_ms; ms <= to; ms += apart) {
    element(svg, "line", { class: "grid upright", x1: x(ms), x2: x(ms), y1: MARGIN.top, y2: height - MARGIN.bottom });
    if (x(ms) > MARGIN.left + 14 && x(ms) < width - MARGIN.right - 14) {
      element(svg, "text", { class: "tick", x: x(ms), y: height - 9, "text-anchor": "middle" }, time(ms));
    }
  }

  const steps = (of) => of.map(([ms, n]) => `${x(ms).toFixed(1)},${y(n).toFixed(1)}`).join("L");
  const centre = minute / 2;
  const plan = points.map((p) => [p.at_ms + centre, p.planned]);
  const ends = (of) => `L${x(of[of.length - 1][0]).toFixed(1)},${y(0)}L${x(of[0][0]).toFixed(1)},${y(0)}Z`;
  element(svg, "path", { class: "plan-area", d: `M${steps(plan)}${ends(plan)}` });
  element(svg, "path", { class: "plan-line", d: `M${steps(plan)}` });

  const paid = points.filter((p) => p.paid !== null && p.paid !== undefined).map((p) => [p.at_ms + centre, p.paid]);
  if (paid.length > 0) {
    element(svg, "path", { class: "paid-area", d: `M${steps(paid)}${ends(paid)}` });
    element(svg, "path", { class: "paid-line", d: `M${steps(paid)}` });
    const [ms, n] = paid[paid.length - 1];
    element(svg, "circle", { class: "paid-dot", cx: x(ms), cy: y(n), r: 6 });
  }
  if (now_ms >= from && now_ms <= to) {
    element(svg, "line", { class: "now", x1: x(now_ms), x2: x(now_ms), y1: MARGIN.top - 4, y2: height - MARGIN.bottom });
    const anchor = x(now_ms) > width - 60 ? "end" : "middle";
    element(svg, "text", { class: "now-word", x: x(now_ms), y: MARGIN.top - 9, "text-anchor": anchor }, words.now);
  }
  host.replaceChildren(svg);
}
