// Parts of `millrace up` that are down and have no panel of their own.

import { byId, el, keep, say, show } from "./dom.js";
import { moment } from "./format.js";
import { put } from "./text.js";

export function render({ status }) {
  const parts = status.parts_down ?? [];
  show(byId("down-panel"), parts.length > 0);
  keep(byId("down-list"), parts, (part) => part.name, make, fill);
}

function make({ name }) {
  const who = el("strong");
  const since = el("span", { class: "num" });
  const why = el("span");
  return { node: el("li", { "data-part": name }, who, " since ", since, ": ", why), who, since, why };
}

function fill({ who, since, why }, { name, since: at, fault, outlook }) {
  put(who, name, { max: 60 });
  say(since, moment(at));
  const code = fault.code === null ? "" : `${fault.code}: `;
  put(why, `${code}${fault.message}; ${outlook}`, { max: 280, title: "Why it is down" });
}
