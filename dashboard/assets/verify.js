// What verify last said: Postgres, the replica and the marts compared row by row at one LSN.

import { byId, el, keep, say, show } from "./dom.js";
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
  byId("verify-run").disabled = Boolean(verify?.running);
  show(byId("verify-known"), Boolean(verify?.at));
  if (running && !verify?.running) report("verify-message", `Verify is done: ${word}.`);
  running = Boolean(verify?.running);
  if (verify) details(verify, now);
}

function outcome(verify) {
  if (!verify) return ["unknown", "Not run yet"];
  if (verify.running) return ["catching_up", "Running"];
  if (verify.error) return ["stalled", "Failed"];
  if (verify.equal === true)
    return verify.not_live.length ? ["falling_behind", "Equal, but not all is live"] : ["ok", "Everything is equal"];
  return verify.equal === false ? ["rewound", "Different"] : ["unknown", "Unknown"];
}

function details(verify, now) {
  ago(byId("verify-at"), verify.at, now);
  put(byId("verify-lsn"), verify.lsn, { max: 40 });
  keep(byId("verify-tables"), verify.tables, (table) => table.name, makeTable, fillTable);
  lines("verify-differences", verify.differences);
  lines("verify-not-live", verify.not_live);
  show(byId("verify-error"), Boolean(verify.error));
  if (verify.error) put(byId("verify-error"), verify.error, { max: 300, title: "Error of verify" });
}

function makeTable() {
  const name = el("th", { scope: "row" });
  const rows = el("td", { class: "num" });
  const equal = el("td");
  const verdict = el("span");
  equal.append(verdict);
  return { node: el("tr", {}, name, rows, equal), name, rows, verdict };
}

function fillTable({ name, rows, verdict }, table) {
  put(name, table.name, { max: 60 });
  number(rows, counted(table.rows, "row"));
  badge(verdict, table.equal ? "ok" : "rewound", table.equal ? "equal" : "different");
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
