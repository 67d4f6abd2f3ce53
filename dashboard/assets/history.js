// Lag and rate of the projections over the chosen range; all switches of it (`data-range`) are one. Five minutes grow by each status
// as it comes; the longer ranges are read again once per step. What was not measured is a gap.

import { read } from "./session.js";

export const RANGES = {
  "5m": { ms: 300e3, words: "5 minutes" },
  "1h": { ms: 3600e3, words: "hour" },
  "24h": { ms: 86400e3, words: "24 hours" },
};
const REREAD_MS_MIN = 10000;

let range = "5m";
let series = new Map();
let nextReadAt = 0;
let reading = false;
let edition = 0;
let onChanged = null;

/// Wires the switch. `changed()` when there is another history than a status more.
export function start(changed) {
  onChanged = changed;
  for (const button of buttons()) button.addEventListener("click", () => choose(button.dataset.range));
}

const buttons = () => document.querySelectorAll("[data-range]");

function choose(next) {
  range = next;
  for (const button of buttons()) button.setAttribute("aria-pressed", String(button.dataset.range === next));
  forget();
  load();
}

/// Whatever is remembered has a hole now: read it again with the next status.
export function forget() {
  series = new Map();
  nextReadAt = 0;
}

/// The chosen range, in ms and in words.
export const chosen = () => RANGES[range];

/// Counts the times that the history was read: what is drawn of an earlier one is outdated.
export const editionNow = () => edition;

/// `{ at, lag_ms, rate }` of a projection, three arrays of one length; empty ones if nothing is known.
export const of = (name) => series.get(name) ?? { at: [], lag_ms: [], rate: [] };

/// Takes note of a status.
export function note(status) {
  const at = Date.parse(status.at);
  if (!reading && Date.now() >= nextReadAt) load();
  if (range !== "5m") return;
  for (const { name, lag, rate } of status.projections) append(name, at, lag.total_ms, rate.transactions_per_s);
}

function append(name, at, lag, rate) {
  const line = of(name);
  series.set(name, line);
  if (line.at.length && line.at.at(-1) >= at) return;
  line.at.push(at);
  line.lag_ms.push(lag);
  line.rate.push(rate);
  while (line.at[0] < at - RANGES["5m"].ms) for (const column of Object.values(line)) column.shift();
}

async function load() {
  const wanted = range;
  reading = true;
  try {
    const answer = await read("api/history", { range: wanted });
    if (wanted === range) adopt(answer);
  } catch {
    nextReadAt = Date.now() + REREAD_MS_MIN;
  } finally {
    reading = false;
  }
}

function adopt(answer) {
  const live = range === "5m" ? series : new Map();
  series = new Map(Object.entries(answer.series));
  nextReadAt = range === "5m" ? Infinity : Date.now() + Math.max(answer.step_ms, REREAD_MS_MIN);
  for (const [name, line] of live) line.at.forEach((at, i) => append(name, at, line.lag_ms[i], line.rate[i]));
  edition += 1;
  onChanged();
}
