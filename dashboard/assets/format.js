// Numbers and times as people read them: always with a unit, and `null` is "unknown", never 0.

import { attr, say } from "./dom.js";

const UNKNOWN = "unknown";
const whole = new Intl.NumberFormat("en", { maximumFractionDigits: 0 });
const three = new Intl.NumberFormat("en", { maximumSignificantDigits: 3 });
const absolute = new Intl.DateTimeFormat("en-GB", { dateStyle: "medium", timeStyle: "long" });
export const day = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short" });
const clockTime = new Intl.DateTimeFormat("en-GB", { timeStyle: "medium" });

export const isKnown = (value) => value !== null && value !== undefined;

/// A count: 1,234,567.
export const count = (n) => (isKnown(n) ? whole.format(n) : UNKNOWN);

/// A count and its noun: "1 record", "7 records".
export const counted = (n, noun) => (isKnown(n) ? `${whole.format(n)} ${noun}${n === 1 ? "" : "s"}` : `${noun}s ${UNKNOWN}`);

/// Milliseconds as a duration: 40 ms, 3.2 s, 5 min 12 s, 2 h 5 min, 3 d 4 h.
export function duration(ms) {
  if (!isKnown(ms)) return UNKNOWN;
  if (ms < 1000) return `${Math.round(ms)} ms`;
  if (ms < 9950) return `${(ms / 1000).toFixed(1)} s`;
  return longer(Math.round(ms / 1000));
}

function longer(s) {
  if (s < 60) return `${s} s`;
  if (s < 3600) return pair(s, 60, "min", 1, "s");
  if (s < 86400) return pair(s, 3600, "h", 60, "min");
  return pair(s, 86400, "d", 3600, "h");
}

function pair(s, big, bigUnit, small, smallUnit) {
  const rest = Math.floor((s % big) / small);
  const head = `${whole.format(Math.floor(s / big))} ${bigUnit}`;
  return rest ? `${head} ${rest} ${smallUnit}` : head;
}

/// Bytes in binary units: 512 B, 1.5 MiB.
export function bytes(n) {
  if (!isKnown(n)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log2(Math.max(1, Math.abs(n))) / 10)));
  return `${power ? three.format(n / 1024 ** power) : whole.format(n)} ${units[power]}`;
}

/// A rate per second in its unit: 12.4 tx/s, 1.5 MiB/s.
export function rate(perSecond, unit) {
  if (!isKnown(perSecond)) return UNKNOWN;
  if (unit === "bytes") return `${bytes(Math.round(perSecond))}/s`;
  const short = { transactions: "tx", records: "rec", changes: "changes", events: "events" }[unit] ?? unit;
  return `${perSecond >= 1000 ? whole.format(perSecond) : three.format(perSecond)} ${short}/s`;
}

/// A moment (RFC 3339 text or epoch ms) in the viewer's own zone.
export const moment = (at) => absolute.format(new Date(at));
export const clock = (at) => clockTime.format(new Date(at));

/// Fills a <time>: how long before `now` (epoch ms, the server's clock), the absolute moment in its title.
export function ago(node, at, now) {
  node.classList.toggle("unknown", !isKnown(at));
  if (!isKnown(at)) {
    attr(node, "datetime", null);
    attr(node, "title", null);
    return say(node, UNKNOWN);
  }
  attr(node, "datetime", at);
  attr(node, "title", `${moment(at)} (${at})`);
  say(node, since(at, now));
}

/// How long before `now` a moment was, in words.
export function since(at, now) {
  if (!isKnown(at)) return UNKNOWN;
  const ms = now - Date.parse(at);
  return ms < 0 ? "just now" : `${duration(ms)} ago`;
}

/// Says a formatted number, in the manner of the unknown where it is.
export function number(node, text) {
  node.classList.toggle("unknown", text.endsWith(UNKNOWN));
  say(node, text);
}
