// One sparkline, large and with axes, in a dialog; it goes on living there.

import { spark } from "./spark.js";
import { attr, byId, say } from "./dom.js";
import * as history from "./history.js";
import { put } from "./text.js";

const HEIGHT = 320;

let trend = null;
let chart = null;
let index = null;

export function start() {
  byId("zoom-dialog").addEventListener("close", () => {
    chart?.gone();
    [trend, chart, index] = [null, null, null];
  });
}

/// Enlarges a Trend.
export function open(given) {
  trend = given;
  put(byId("zoom-title"), `${trend.what} of ${trend.projection}`, { max: 80, whole: false });
  byId("zoom-dialog").showModal();
  chart = spark(byId("zoom"), { variable: trend.variable, height: HEIGHT, onCursor: point, axes: trend.format });
  render({ now: trend.drawnTo });
}

export function render({ now }) {
  if (!chart) return;
  chart.set(trend.at, trend.values, now - history.chosen().ms, now);
  attr(byId("zoom"), "aria-label", trend.spoken());
  say(byId("zoom-caption"), trend.words(index));
}

function point(at) {
  index = at;
  if (trend) say(byId("zoom-caption"), trend.words(index));
}
