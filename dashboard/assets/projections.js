// A row per projection: verdict, lag (its own and what it inherits), what it still has to do, its recent past, where it stands.

import { run } from "./actions.js";
import { attr, byId, el, keep, say, show } from "./dom.js";
import { bytes, count, counted, duration, isKnown, moment, number, rate, since } from "./format.js";
import { put } from "./text.js";
import { Trend } from "./trend.js";
import { badge, known } from "./verdict.js";

export function start() {
  byId("pause").addEventListener("click", () => change("pause", "Paused. MySQL stands still until you resume."));
  byId("resume").addEventListener("click", () => change("resume", "Resumed."));
}

function change(what, done) {
  run(byId(what), "projections-message", `api/projections/${what}`, () => done);
}

export function render({ status, now }) {
  const rows = status.projections.flatMap((projection) => [{ id: `row ${projection.name}`, projection }, ...note(projection)]);
  keep(
    byId("projections-body"),
    rows,
    (row) => row.id,
    make,
    (row, item) => row.fill(item.projection, now),
  );
  show(byId("projections-none"), status.projections.length === 0);
  group(status.projections);
}

/// A second row for what does not fit into a cell: why the verdict is as it is, and the last error.
function note(projection) {
  return projection.reason || projection.last_error ? [{ id: `note ${projection.name}`, projection, isNote: true }] : [];
}

function group(projections) {
  const since = projections.map((projection) => projection.paused_since).find(isKnown) ?? null;
  show(byId("pause"), since === null);
  show(byId("resume"), since !== null);
  show(byId("paused"), since !== null);
  if (since) say(byId("paused"), `Paused since ${moment(since)}`);
}

const make = ({ projection, isNote }) => (isNote ? makeNote(projection) : makeRow(projection));

function makeNote(projection) {
  const reason = el("p", { "data-field": "reason" });
  const error = el("p", { class: "bad", "data-field": "error" });
  const node = el(
    "tr",
    { role: "row", class: "note-row", "data-note-of": projection.name },
    el("td", { role: "cell", colspan: 8 }, reason, error),
  );
  return { node, fill: (now) => fillNote({ node, reason, error }, now) };
}

function fillNote({ node, reason, error }, { verdict, reason: why, last_error: last }) {
  attr(node, "data-verdict", known(verdict));
  show(reason, Boolean(why));
  if (why) put(reason, why, { max: 300, title: "Why" });
  show(error, Boolean(last));
  if (last) put(error, `Last error: ${last.code ? `${last.code} ` : ""}${last.message}`, { max: 400, title: "Last error" });
}

const field = (name, tag = "span") => el(tag, { "data-field": name });

/// A cell with its main value above and lesser ones below; `label` names it where the table becomes cards.
function cell(label, main, ...lesser) {
  return el("td", { role: "cell", "data-label": label }, main, ...lesser.map((node) => el("div", { class: "lesser" }, node)));
}

function makeRow({ name }) {
  const f = Object.fromEntries(
    ["name", "kind", "verdict", "state", "lag", "own", "records", "bytes", "rate", "changes", "position", "applied"].map(
      (key) => [key, field(key)],
    ),
  );
  const lag = new Trend({ what: "Lag", column: "lag_ms", variable: "--lag", format: duration });
  const speed = new Trend({ what: "Rate", column: "rate", variable: "--rate", format: (n) => rate(n, "transactions") });
  f.lag.classList.add("big");
  const node = el(
    "tr",
    { role: "row", "data-projection": name },
    el("th", { role: "rowheader", scope: "row" }, f.name, el("div", { class: "lesser" }, f.kind)),
    cell("Verdict", f.verdict, f.state),
    cell("Lag", f.lag, f.own),
    cell("To do", f.records, f.bytes),
    cell("Rate", f.rate, f.changes),
    cell("Lag over time", lag.node),
    cell("Rate over time", speed.node),
    cell("Position", f.position, f.applied),
  );
  return {
    node,
    gone: () => [lag, speed].forEach((line) => line.gone()),
    fill: (projection, now) => fillRow(node, f, lag, speed, projection, now),
  };
}

function fillRow(node, f, lag, speed, projection, now) {
  attr(node, "data-verdict", known(projection.verdict));
  put(f.name, projection.name, { max: 60 });
  put(f.kind, `${projection.kind}${projection.version === "-" ? "" : `, version ${projection.version}`}`, { max: 60 });
  badge(f.verdict, projection.verdict);
  put(f.state, `${projection.state.replaceAll("_", " ")}${arrival(projection)}`, { max: 60 });
  fillNumbers(node, f, projection);
  fillPosition(f, projection.position, now);
  lag.draw(projection.name, now);
  speed.draw(projection.name, now);
}

/// When it will have caught up, while it is catching up.
function arrival({ verdict, eta_s: eta }) {
  if (isKnown(eta)) return `, there in about ${duration(eta * 1000)}`;
  return verdict === "catching_up" ? ", arrival unknown" : "";
}

const BASIS = {
  exact: "Measured from the commit times of what is not applied yet.",
  heartbeat: "At most so much: known from heartbeats only, no better than to their period.",
  wal: "At most so much: what Postgres wrote before that has been received.",
};

function fillNumbers(node, f, { lag, rate: speed, caught_up: caughtUp }) {
  attr(node, "data-lag-ms", lag.total_ms ?? "unknown");
  attr(node, "data-own-ms", lag.own_ms ?? "unknown");
  attr(node, "data-inherited-ms", lag.inherited_ms ?? "unknown");
  attr(node, "data-lag-records", lag.records ?? "unknown");
  attr(node, "data-caught-up", String(caughtUp ?? "unknown"));
  attr(f.lag, "title", BASIS[lag.basis] ?? "How it was measured is unknown.");
  number(f.lag, duration(lag.total_ms));
  say(f.own, parts(lag));
  number(f.records, caughtUp === true && lag.records === 0 ? "nothing" : counted(lag.records, "record"));
  say(f.bytes, backlog(lag));
  number(f.rate, rate(speed.transactions_per_s, "transactions"));
  say(f.changes, isKnown(speed.changes_per_s) ? rate(speed.changes_per_s, "changes") : "changes unknown");
}

function parts({ own_ms: own, inherited_ms: inherited }) {
  if (!isKnown(own) && !isKnown(inherited)) return "own and inherited unknown";
  return `own ${duration(own)}, inherited ${duration(inherited)}`;
}

function backlog({ transactions, bytes: size }) {
  if (!isKnown(transactions) && !isKnown(size)) return "transactions and bytes unknown";
  return `${counted(transactions, "transaction")}, ${isKnown(size) ? bytes(size) : "bytes unknown"}`;
}

function fillPosition(f, position, now) {
  put(f.position, position.lsn, { max: 30 });
  const offset = isKnown(position.offset) ? `offset ${count(position.offset)}` : "offset unknown";
  say(f.applied, `${offset}, applied ${since(position.applied_at, now)}`);
  const committed = isKnown(position.source_at)
    ? `Committed in Postgres ${moment(position.source_at)}`
    : "Commit time in Postgres unknown";
  attr(f.applied, "title", isKnown(position.applied_at) ? `${committed}, applied ${moment(position.applied_at)}` : committed);
}
