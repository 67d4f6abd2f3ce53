// The tables that are selected: where each stands, how large it is, how far its copy is, and why it is not live.

import { attr, byId, cell, el, keep, lesser, say, show } from "./dom.js";
import { ago, bytes, count, counted, duration, isKnown, number } from "./format.js";
import { put, visible } from "./text.js";
import { badge } from "./verdict.js";

/// How a state looks; what is not here is unknown.
const LOOKS = {
  not_captured: "stopped",
  planned: "catching_up",
  copying: "catching_up",
  loading: "catching_up",
  catching_up: "catching_up",
  live: "ok",
  set_aside: "stopped",
  removed: "stopped",
};

export function render({ status, now }) {
  const tables = status.tables ?? [];
  show(byId("tables-table"), tables.length > 0);
  show(byId("tables-none"), tables.length === 0);
  say(byId("tables-live"), `${count(tables.filter(({ state }) => state === "live").length)} of ${count(tables.length)} live`);
  keep(
    byId("tables-body"),
    tables,
    (table) => table.name,
    make,
    (row, table) => fill(row, table, now),
  );
}

function make({ name }) {
  const f = {
    name: el("span"),
    target: lesser(),
    state: el("span"),
    since: el("time", { class: "lesser" }),
    rows: el("span"),
    size: lesser(),
    quarantined: lesser(),
    bar: el("progress", { "data-load": name }),
    copied: lesser(),
    eta: lesser(),
    reason: el("span"),
  };
  f.copy = cell("Copy", f.bar, f.copied, f.eta);
  f.why = cell("Why not live", f.reason);
  const node = el(
    "tr",
    { role: "row", "data-table": name },
    el("th", { role: "rowheader", scope: "row" }, f.name, f.target),
    cell("State", f.state, el("div", {}, f.since)),
    cell("Rows", f.rows, f.size, f.quarantined),
    f.copy,
    f.why,
  );
  return { node, f };
}

function fill({ node, f }, table, now) {
  attr(node, "data-state", table.state);
  put(f.name, table.name, { max: 80 });
  show(f.target, isKnown(table.target));
  if (isKnown(table.target)) put(f.target, `in MySQL ${table.target}`, { max: 80 });
  badge(f.state, LOOKS[table.state] ?? "unknown", table.state.replaceAll("_", " "));
  ago(f.since, table.since, now);
  number(f.rows, about(count(table.rows)));
  say(f.size, about(bytes(table.bytes)));
  show(f.quarantined, table.quarantined > 0);
  say(f.quarantined, `${counted(table.quarantined ?? 0, "value")} in quarantine`);
  nothing(f.why, !table.reason);
  put(f.reason, table.reason ?? "", { max: 300, title: "Why it is not live" });
  fillCopy(f, table);
}

/// A cell without anything in it has no place among the cards of a narrow window.
const nothing = (node, isEmpty) => attr(node, "data-empty", isEmpty ? "" : null);

const about = (text) => (text === "unknown" ? text : `about ${text}`);

/// Reading and loading together: a copy is complete when both are.
function fillCopy(f, { name, copy }) {
  nothing(f.copy, !isKnown(copy));
  for (const node of [f.bar, f.copied, f.eta]) show(node, isKnown(copy));
  if (!isKnown(copy)) return;
  const whole = Math.max(copy.rows_estimated ?? 0, copy.rows_read ?? 0, copy.rows_loaded ?? 0);
  const read = Math.max(copy.rows_read ?? 0, copy.rows_loaded ?? 0);
  attr(f.bar, "max", whole > 0 ? 2 * whole : null);
  attr(f.bar, "value", whole > 0 ? read + (copy.rows_loaded ?? 0) : null);
  attr(f.bar, "aria-label", `Copy of ${visible(name, 80)}`);
  say(f.copied, `${count(copy.rows_read)} read, ${count(copy.rows_loaded)} loaded, of ${about(count(copy.rows_estimated))} rows`);
  say(f.eta, isKnown(copy.eta_s) ? `there in about ${duration(copy.eta_s * 1000)}` : "arrival unknown");
}
