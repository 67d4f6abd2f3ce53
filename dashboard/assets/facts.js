// Cards of facts: a definition list that changes in place, and the answer that may be "unknown".

import { byId, el, keep, show } from "./dom.js";
import { ago, number } from "./format.js";
import { put, unknown } from "./text.js";

/// Fills a <dl>. A fact is { label, text | foreign | at | error, note?, why? }: `text` is ours and formatted, `foreign` comes from the
/// data, `at` is a moment, `error` is { code, message }. What is null is unknown. Facts that are null themselves are left out.
export function facts(list, now, items) {
  const given = items.filter((item) => item !== null);
  keep(
    list,
    given,
    (item) => item.label,
    make,
    (fact, item) => fill(fact, item, now),
  );
}

function make(item) {
  const value = el("at" in item ? "time" : "span", { class: "value" });
  const note = el("small", { class: "note" });
  const key = item.label.toLowerCase().replaceAll(/[^a-z0-9]+/g, "-");
  const node = el("div", { class: "fact", "data-fact": key }, el("dt", {}, item.label), el("dd", {}, value, note));
  return { node, value, note };
}

function fill({ node, value, note }, item, now) {
  if ("at" in item) ago(value, item.at, now);
  else if ("text" in item) number(value, item.text);
  else if ("error" in item)
    put(value, `${item.error.code ? `${item.error.code}: ` : ""}${item.error.message}`, { title: item.label });
  else if (item.foreign === null) unknown(value, item.why);
  else put(value, item.foreign, { max: 80, title: item.label });
  node.classList.toggle("wide", "error" in item);
  node.classList.toggle("bad", "error" in item);
  show(note, Boolean(item.note));
  if (item.note) number(note, item.note);
}

/// What a service answered, or null; then the paragraph `<id>-unknown` says why and `<id>-known` is hidden.
export function answered(id, answer) {
  const value = answer?.known ?? null;
  show(byId(`${id}-known`), value !== null);
  show(byId(`${id}-unknown`), value === null);
  if (value === null) put(byId(`${id}-why`), answer?.unknown ?? "no answer", { max: 300 });
  return value;
}
