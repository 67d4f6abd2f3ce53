// A sparkline with its words: the highest value of the range, or the value under the pointer. Drawn once per second at most.

import { spark } from "./spark.js";
import { attr, el, say } from "./dom.js";
import { clock, isKnown } from "./format.js";
import * as history from "./history.js";
import * as zoom from "./zoom.js";

const REDRAW_MS_MIN = 950;
const HEIGHT = 34;

/// `what` is its name in words, `column` that of the history, `variable` its colour, `format(value)` words a value.
export class Trend {
  constructor({ what, column, variable, format }) {
    Object.assign(this, {
      what,
      column,
      variable,
      format,
      at: [],
      values: [],
      index: null,
      edition: -1,
      drawnAt: 0,
      chart: null,
    });
    this.host = el("div", { class: "spark" });
    this.caption = el("div", { class: "lesser spark-caption", "aria-hidden": "true" });
    this.node = el(
      "button",
      { type: "button", class: "trend", "data-trend": column, onclick: () => zoom.open(this) },
      this.host,
      this.caption,
    );
  }

  /// Draws the history of a projection up to `now`.
  draw(projection, now) {
    if (this.edition === history.editionNow() && Date.now() - this.drawnAt < REDRAW_MS_MIN) return;
    [this.edition, this.drawnAt] = [history.editionNow(), Date.now()];
    this.chart ??= spark(this.host, { variable: this.variable, height: HEIGHT, onCursor: (index) => this.point(index) });
    this.projection = projection;
    const line = history.of(projection);
    [this.at, this.values] = [line.at, line[this.column]];
    this.drawnTo = now;
    this.chart.set(this.at, this.values, now - history.chosen().ms, now);
    say(this.caption, this.words());
    attr(this.node, "aria-label", `${this.spoken()}. Enlarge`);
  }

  gone() {
    this.chart?.gone();
  }

  point(index) {
    this.index = index;
    say(this.caption, this.words());
  }

  /// What is said below it: the value at `index`, or the highest.
  words(index = this.index) {
    const { at, values } = this;
    if (index !== null && index < values.length) return `${clock(at[index])}: ${this.format(values[index])}`;
    return values.some(isKnown) ? `max ${this.format(highest(values))}` : "no data yet";
  }

  spoken() {
    const range = `${this.what} over the last ${history.chosen().words}`;
    if (!this.values.some(isKnown)) return `${range}: no data yet`;
    return `${range}: now ${this.format(this.values.at(-1))}, max ${this.format(highest(this.values))}`;
  }
}

function highest(values) {
  return values.reduce((most, value) => (isKnown(value) && value > most ? value : most), 0);
}
