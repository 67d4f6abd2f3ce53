// The strip Postgres → slot → topic → SmartModules → projector → MySQL: where data waits, and how long it has waited.

import { attr, byId, el, keep, say, show } from "./dom.js";
import { duration, isKnown, number, rate } from "./format.js";
import { put } from "./text.js";
import { badge, known } from "./verdict.js";

export function render({ status }) {
  keep(byId("pipeline"), status.pipeline, (hop) => hop.hop, make, fill);
}

function make(hop) {
  const label = el("strong", { class: "hop-label" });
  const slowest = el("span", { class: "slowest", hidden: true }, "slowest");
  const verdict = el("span");
  const flow = el("span", { class: "hop-rate num", "data-field": "rate" });
  const age = el("span", { class: "hop-age num", "data-field": "age" });
  const detail = el("span", { class: "hop-detail" });
  const node = el("li", { "data-hop": hop.hop }, el("div", { class: "hop-head" }, label, slowest), verdict, flow, age, detail);
  return { node, label, slowest, verdict, flow, age, detail };
}

function fill(parts, hop) {
  attr(parts.node, "data-verdict", known(hop.verdict));
  attr(parts.node, "data-slowest", hop.slowest);
  show(parts.slowest, hop.slowest);
  put(parts.label, hop.label, { max: 40 });
  badge(parts.verdict, hop.verdict);
  number(parts.flow, isKnown(hop.rate_per_s) ? rate(hop.rate_per_s, hop.unit) : "rate unknown");
  attr(parts.age, "data-age-ms", hop.age_ms ?? "unknown");
  say(parts.age, waiting(hop.age_ms));
  parts.age.classList.toggle("unknown", !isKnown(hop.age_ms));
  put(parts.detail, hop.detail, { max: 90, title: "Detail" });
}

function waiting(ageMs) {
  if (!isKnown(ageMs)) return "wait unknown";
  return ageMs === 0 ? "nothing waits" : `waits ${duration(ageMs)}`;
}
