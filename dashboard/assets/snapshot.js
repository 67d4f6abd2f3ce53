// The first load, while it lasts: what capture has copied, and what each projection has loaded of it.

import { attr, byId, el, keep, say, show } from "./dom.js";
import { count, isKnown } from "./format.js";
import { put, visible } from "./text.js";

export function render({ status }) {
  const loads = [...captured(status.capture), ...loaded(status.projections)];
  show(byId("snapshot-panel"), loads.length > 0);
  keep(byId("snapshot-list"), loads, (load) => load.key, make, fill);
}

function captured(answer) {
  const snapshot = answer?.known?.snapshot;
  if (!snapshot) return [];
  return [
    { key: "capture", who: "Capture copies", what: snapshot.table, rows: snapshot.rows, total: snapshot.total, about: false },
  ];
}

function loaded(projections) {
  return projections
    .filter((projection) => projection.snapshot)
    .map(({ name, snapshot }) => ({
      key: `p ${name}`,
      who: "Projector loads",
      what: name,
      rows: snapshot.rows,
      total: snapshot.rows_estimated,
      about: true,
    }));
}

function make({ key, who }) {
  const what = el("strong");
  const bar = el("progress", { "data-load": key });
  const rows = el("span", { class: "num" });
  return { node: el("li", {}, el("span", { class: "load-name" }, `${who} `, what), bar, rows), what, bar, rows };
}

function fill({ what, bar, rows }, load) {
  const bounded = isKnown(load.total) && isKnown(load.rows) && load.total > 0;
  put(what, load.what, { max: 60 });
  attr(bar, "max", bounded ? Math.max(load.total, load.rows) : null);
  attr(bar, "value", bounded ? load.rows : null);
  attr(bar, "aria-label", `${load.who} ${visible(load.what, 60)}`);
  const share = bounded ? ` (${Math.floor((100 * load.rows) / Math.max(load.total, load.rows))} %)` : "";
  say(rows, `${count(load.rows)} of ${load.about && isKnown(load.total) ? "about " : ""}${count(load.total)} rows${share}`);
}
