// A row per projection: verdict, lag (its own and what it inherits), what it still has to do, its recent past, where it stands.

import { confirmed, run } from "./actions.js";
import { attr, byId, cell, el, keep, lesser, say, show } from "./dom.js";
import { bytes, count, counted, duration, isKnown, moment, number, rate, since } from "./format.js";
import { put } from "./text.js";
import { Trend } from "./trend.js";
import { badge, known } from "./verdict.js";

export function start() {
  byId("pause").addEventListener("click", pressed);
}

/// One button, so that the focus stays on it: what it does follows from what the status says.
async function pressed() {
  const what = byId("pause").dataset.action;
  if (what === "pause" && !(await confirmed(QUESTION, "Pause everything"))) return;
  const done = { pause: "Paused. MySQL stands still until you resume.", resume: "Resumed." }[what];
  await run(byId("pause"), "projections-message", `api/projections/${what}`, () => done);
}

const QUESTION =
  "Pause the replica and all marts? MySQL stands still from the next commit on, restarts included, until somebody resumes. Postgres and the topic go on.";

export function render({ status, now }) {
  const rows = status.projections.map((projection) => ({ id: `row ${projection.name}`, projection }));
  keep(
    byId("projections-body"),
    [...rows, ...notes(status.projections)],
    (row) => row.id,
    make,
    (row, item) => row.fill(item, now),
  );
  show(byId("projections-none"), status.projections.length === 0);
  group(status.projections);
}

/// Rows for what does not fit into a cell: why the verdict is as it is, and the last error. Projections move together: what is
/// said of several is said once.
function notes(projections) {
  const shared = new Map();
  for (const projection of projections.filter(({ reason, last_error: last }) => reason || last)) {
    const text = JSON.stringify([projection.reason, projection.last_error]);
    shared.set(text, [...(shared.get(text) ?? []), projection]);
  }
  return [...shared.values()].map((about) => ({ id: `note ${about[0].name}`, about, of: projections.length }));
}

function group(projections) {
  const since = projections.map((projection) => projection.paused_since).find(isKnown) ?? null;
  const button = byId("pause");
  attr(button, "data-action", since === null ? "pause" : "resume");
  button.classList.toggle("primary", since !== null);
  say(button, since === null ? "Pause" : "Resume");
  show(byId("paused"), since !== null);
  if (since) say(byId("paused"), `Paused since ${moment(since)}`);
}

const make = (item) => (item.about ? makeNote(item) : makeRow(item.projection));

function makeNote({ about }) {
  const who = el("p", { class: "lesser" });
  const reason = el("p", { "data-field": "reason" });
  const error = el("p", { class: "bad", "data-field": "error" });
  const node = el(
    "tr",
    { role: "row", class: "note-row", "data-note-of": about[0].name },
    el("td", { role: "cell", colspan: 8 }, who, reason, error),
  );
  return { node, fill: (item) => fillNote({ node, who, reason, error }, item) };
}

function fillNote({ node, who, reason, error }, { about, of }) {
  const [{ verdict, reason: why, last_error: last }] = about;
  attr(node, "data-verdict", known(verdict));
  put(who, about.length === of ? `All ${of} projections` : about.map(({ name }) => name).join(", "), { max: 200 });
  show(reason, Boolean(why));
  if (why) put(reason, why, { max: 300, title: "Why" });
  // A reason often is the last error, or contains it.
  const told = Boolean(last) && !why?.includes(last.message);
  show(error, told);
  if (told) put(error, `Last error: ${last.code ? `${last.code} ` : ""}${last.message}`, { max: 400, title: "Last error" });
}

const field = (name, tag = "span") => el(tag, { "data-field": name });

/// A cell with its main value above and lesser ones below; `label` names it where the table becomes cards.
function stacked(label, main, ...others) {
  return cell(label, main, ...others.map((node) => lesser(node)));
}

function makeRow({ name }) {
  const f = Object.fromEntries(
    ["name", "kind", "verdict", "different", "state", "quarantined", "lag", "own", "records", "bytes", "rate", "changes", "position", "applied"].map(
      (key) => [key, field(key)],
    ),
  );
  const lag = new Trend({ what: "Lag", column: "lag_ms", variable: "--lag", format: duration });
  const speed = new Trend({ what: "Rate", column: "rate", variable: "--rate", format: (n) => rate(n, "transactions") });
  f.lag.classList.add("big");
  const node = el(
    "tr",
    { role: "row", "data-projection": name },
    el("th", { role: "rowheader", scope: "row" }, f.name, lesser(f.kind), lesser(f.quarantined)),
    stacked("Verdict", f.verdict, f.different, f.state),
    stacked("Lag", f.lag, f.own),
    stacked("To do", f.records, f.bytes),
    stacked("Rate", f.rate, f.changes),
    stacked("Lag over time", lag.node),
    stacked("Rate over time", speed.node),
    stacked("Position", f.position, f.applied),
  );
  return {
    node,
    gone: () => [lag, speed].forEach((line) => line.gone()),
    fill: (item, now) => fillRow(node, f, lag, speed, item.projection, now),
  };
}

function fillRow(node, f, lag, speed, projection, now) {
  attr(node, "data-verdict", known(projection.verdict));
  put(f.name, projection.name, { max: 60 });
  put(f.kind, `${projection.kind}${projection.version === "-" ? "" : `, version ${projection.version}`}`, { max: 60 });
  badge(f.verdict, projection.verdict);
  show(f.quarantined, projection.quarantined > 0);
  say(f.quarantined, `${counted(projection.quarantined ?? 0, "value")} in quarantine`);
  attr(node, "data-differences", projection.differences ?? "unknown");
  show(f.different, projection.differences > 0);
  badge(f.different, "different", counted(projection.differences, "difference"));
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
