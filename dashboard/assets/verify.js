// What verify last said, whoever ran it: Postgres, the replica and the marts compared row by row at one LSN.

import { byId, el, enable, keep, lesser, say, show } from "./dom.js";
import { ago, counted, number } from "./format.js";
import { report, run } from "./actions.js";
import { put } from "./text.js";
import { badge } from "./verdict.js";

const LINES_MAX = 200;

let running = false;

export function start() {
  byId("verify-run").addEventListener("click", () =>
    run(byId("verify-run"), "verify-message", "api/verify", () => "Verify has started."),
  );
}

export function render({ status: { verify }, now }) {
  const [verdict, word] = outcome(verify);
  badge(byId("verify-outcome"), verdict, word);
  if (running !== Boolean(verify?.running)) enable(byId("verify-run"), running);
  show(byId("verify-known"), Boolean(verify?.at));
  if (running && !verify?.running) report("verify-message", `Verify is done: ${word}.`);
  running = Boolean(verify?.running);
  if (verify) details(verify, now);
  byItself(verify?.periodic);
}

/// Those that the projector runs without being asked.
function byItself(periodic) {
  show(byId("verify-periodic"), Boolean(periodic));
  show(byId("verify-waits"), Boolean(periodic?.waits_for));
  if (!periodic) return;
  say(byId("verify-periodic"), `It also runs by itself, every ${counted(periodic.period_s, "second")}.`);
  if (periodic.waits_for) put(byId("verify-waits"), `One is due and waits for ${periodic.waits_for}`, { max: 300 });
}

function outcome(verify) {
  if (!verify) return ["unknown", "Not run yet"];
  if (verify.running) return ["catching_up", "Running"];
  if (verify.equal === false) return ["different", "Different"];
  if (verify.equal === true) return ["ok", "Everything is equal"];
  return ["unknown", verify.unfinished ? "No answer" : "Unknown"];
}

function details(verify, now) {
  ago(byId("verify-at"), verify.at, now);
  put(byId("verify-lsn"), verify.lsn, { max: 40 });
  keep(byId("verify-tables"), verify.tables, (table) => table.name, makeTable, fillTable);
  lines("verify-differences", verify.differences);
  lines("verify-history", [...(verify.history ?? [])].reverse().map(inShort));
  lines("verify-not-live", verify.unfinished?.not_live ?? verify.not_live);
  show(byId("verify-advice"), verify.equal === false);
  later(verify.unfinished, now);
}

function inShort({ at, by, answer, rows, differences, took_ms }) {
  const who = by === "period" ? "by itself" : "asked for";
  const found = answer === "different" ? counted(differences, "difference") : answer;
  return `${at}, ${who}: ${found} in ${counted(rows, "row")}, ${took_ms} ms`;
}

/// One that could not be finished takes no answer away.
function later(unfinished, now) {
  show(byId("verify-unfinished"), Boolean(unfinished));
  if (!unfinished) return;
  ago(byId("verify-unfinished-at"), unfinished.at, now);
  put(byId("verify-unfinished-why"), unfinished.reason, { max: 300, title: "Why verify gave no answer" });
}

function makeTable() {
  const name = el("th", { scope: "row" });
  const rows = el("td", { class: "num" });
  const equal = el("td");
  const verdict = el("span");
  const kept = lesser();
  equal.append(verdict, kept);
  return { node: el("tr", {}, name, rows, equal), name, rows, verdict, kept };
}

function fillTable({ name, rows, verdict, kept }, table) {
  put(name, table.name, { max: 60 });
  number(rows, counted(table.rows, "row"));
  badge(verdict, table.equal ? "ok" : "different", table.equal ? "equal" : counted(table.differences, "difference"));
  show(kept, table.quarantined > 0);
  say(kept, `${counted(table.quarantined ?? 0, "value")} in quarantine`);
}

function lines(id, texts) {
  show(byId(id), texts.length > 0);
  keep(
    byId(`${id}-list`),
    texts.slice(0, LINES_MAX),
    (_, index) => index,
    () => ({ node: el("li") }),
    ({ node }, text) => put(node, text, { max: 200 }),
  );
  say(byId(`${id}-count`), String(texts.length));
}
