// Events that were rejected: what came, what the SmartModule made of it, why, what would be valid; sent again or
// discarded from here.
// The counts and the list are read again from the server after every action.

import { confirmed, run } from "./actions.js";
import { attr, byId, cell, el, enable, keep, lesser, say, show } from "./dom.js";
import { answered } from "./facts.js";
import { ago, count, isKnown, moment } from "./format.js";
import { inView } from "./inview.js";
import { read } from "./session.js";
import { put, unknown, visible } from "./text.js";

const PAGE = 20;
const ANSWER_MAX = 200;
const CUT = 220;

let panel = null;
let state = "open";
let pages = 1;
let seen = null;
let wanted = null;
let answer = null;
let clockNow = Date.now();

export function start() {
  panel = inView(byId("rejected-panel"), refresh);
  byId("rejected-state").addEventListener("change", () => {
    state = byId("rejected-state").value;
    pages = 1;
    load();
  });
  byId("rejected-more").addEventListener("click", () => {
    pages += 1;
    load();
  });
}

/// Counts with every status; the list only when they moved and somebody looks.
export function render({ status, now }) {
  clockNow = now;
  // Without ingest nothing is rejected.
  for (const node of [byId("rejected-panel"), byId("rejected-link")]) show(node, status.rejected !== null);
  const counts = answered("rejected", status.rejected);
  if (!counts) return;
  tell(counts);
  wanted = JSON.stringify(counts);
  if (answer && panel.visible) draw(answer);
  refresh();
}

function refresh() {
  if (panel.visible && wanted !== null && wanted !== seen) load();
}

function tell(counts) {
  for (const name of ["open", "retried", "discarded"]) say(byId(`rejected-${name}`), count(counts[name]));
  say(byId("rejected-badge"), counts.open ? count(counts.open) : "");
}

async function load() {
  seen = wanted;
  try {
    answer = await records(PAGE * pages);
    tell(answer.counts);
    draw(answer);
    show(byId("rejected-error"), false);
  } catch (failure) {
    seen = null;
    say(byId("rejected-error"), `The list cannot be read: ${visible(failure.message)}`);
    show(byId("rejected-error"), true);
  }
}

/// The newest so many; an answer holds no more than ANSWER_MAX of them.
async function records(many) {
  let all = { records: [], next_before: null };
  do {
    const limit = Math.min(ANSWER_MAX, many - all.records.length);
    const page = await read("api/rejected", { state, limit, before: all.next_before });
    all = { ...page, records: [...all.records, ...page.records] };
  } while (all.next_before !== null && all.records.length < many);
  return all;
}

function draw({ records, next_before: next }) {
  keep(byId("rejected-body"), records, (record) => record.offset, make, fill);
  show(byId("rejected-table"), records.length > 0);
  show(byId("rejected-none"), records.length === 0);
  say(byId("rejected-none"), state === "all" ? "Nothing was ever refused." : `No ${state} events.`);
  show(byId("rejected-more"), next !== null);
}

function make({ offset }) {
  const f = { from: lesser(), at: el("time"), reason: el("strong"), where: lesser() };
  Object.assign(f, {
    original: el("pre"),
    transformed: el("pre"),
    state: el("span", { "data-field": "state" }),
    why: lesser(),
  });
  const retry = el("button", { type: "button", "data-action": "retry", onclick: () => act(offset, "retry", retry) }, "Retry");
  const discard = el(
    "button",
    { type: "button", "data-action": "discard", onclick: () => discardAsked(offset, discard) },
    "Discard",
  );
  const node = el(
    "tr",
    { role: "row", "data-rejected": offset },
    el("th", { role: "rowheader", scope: "row" }, el("span", { class: "num" }, count(offset)), f.from),
    cell("Refused", f.at),
    cell("Reason", f.reason, f.where),
    cell("Original", f.original),
    cell("Transformed", f.transformed),
    cell("State", f.state, f.why),
    cell("", el("div", { class: "buttons" }, retry, discard)),
  );
  return { node, f, retry, discard };
}

function fill({ node, f, retry, discard }, record) {
  attr(node, "data-state", record.state);
  put(f.from, `${record.source_topic}, offset ${count(record.source_offset)}`, { max: 80 });
  ago(f.at, record.at, clockNow);
  put(f.reason, record.reason, { max: 60 });
  put(f.where, where(record), { max: 220 });
  put(f.original, record.original, { max: CUT, title: "Original" });
  if (isKnown(record.transformed)) put(f.transformed, record.transformed, { max: CUT, title: "Transformed" });
  else unknown(f.transformed, "the SmartModule could not be asked");
  put(f.state, record.state, { max: 30 });
  put(f.why, hindrance(record) ?? (record.acted_at ? `since ${moment(record.acted_at)}` : ""));
  enable(retry, record.state === "open");
  show(retry, !hindrance(record));
  enable(discard, record.state === "open");
}

/// Which part of the event, or which rule of Postgres, refused it, and what it would take.
function where({ field, sqlstate, constraint, valid }) {
  return [field && `field ${field}`, sqlstate && `SQLSTATE ${sqlstate}`, constraint && `constraint ${constraint}`, valid && `valid is: ${valid}`]
    .filter(Boolean)
    .join(", ");
}

/// Why sending it again is of no use, or null: ingest knows.
const hindrance = (record) => record.no_retry && `no retry: ${record.no_retry}`;

async function discardAsked(offset, button) {
  if (
    await confirmed(
      `Discard the refused event at offset ${count(offset)}? It stays in the topic, but cannot be retried from here.`,
      "Discard",
    )
  ) {
    await act(offset, "discard", button);
  }
}

async function act(offset, what, button) {
  const done = { retry: "was sent to the topic again", discard: "is discarded" }[what];
  await run(button, "rejected-message", `api/rejected/${offset}/${what}`, () => `The event at offset ${count(offset)} ${done}.`);
  await load();
}
