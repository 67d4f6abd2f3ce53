// The chart of a mart, its legend, and the same as a table for whoever cannot see it.

import { bars } from "./bars.js";
import { byId, el, say, show } from "./dom.js";
import { isKnown } from "./format.js";
import { put, visible } from "./text.js";

const HEIGHT = 240;
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 2 });
const short = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const rounded = [2, 1, 0].map((digits) => new Intl.NumberFormat("en", { maximumFractionDigits: digits }));
const label = (n) => (Math.abs(n) >= 10000 ? short : rounded[Math.abs(n) < 10 ? 0 : Math.abs(n) < 100 ? 1 : 2]).format(n);

let chart = null;
let drawn = "";

/// Draws what the server answered, or says why it did not.
export function draw(answer) {
  const why = hindrance(answer);
  show(byId("chart-figure"), why === null);
  show(byId("chart-error"), why !== null);
  if (why !== null) return say(byId("chart-error"), `No chart: ${why}.`);
  const { lsn: _, ...content } = answer;
  const key = JSON.stringify(content);
  if (key === drawn) return;
  drawn = key;
  chart ??= bars(byId("chart"), { height: HEIGHT, format: label });
  chart.set(answer.categories, answer.series);
  describe(answer);
}

function hindrance(answer) {
  if (answer instanceof Error) return visible(answer.message);
  return answer.categories.length && answer.series.length ? null : "there is nothing to draw yet";
}

function describe({ title, unit, categories, series }) {
  put(byId("chart-title"), unit ? `${title}, ${unit}` : title, { max: 100 });
  byId("chart").setAttribute("aria-label", `Bar chart: ${visible(title)}. The table below it has the numbers.`);
  byId("chart-legend").replaceChildren(...(series.length > 1 ? series.map(legend) : []));
  byId("chart-head").replaceChildren(el("td"), ...series.map(({ name }) => heading("col", name)));
  byId("chart-body").replaceChildren(
    ...categories.map((category, i) =>
      el(
        "tr",
        {},
        heading("row", category),
        ...series.map(({ values }) => el("td", { class: "num" }, isKnown(values[i]) ? plain.format(values[i]) : "none")),
      ),
    ),
  );
}

function legend({ name }, k) {
  const text = el("span");
  put(text, name, { max: 40 });
  return el("li", {}, el("span", { class: "swatch", "data-series": k % 6 }), text);
}

function heading(scope, name) {
  const node = el("th", { scope });
  put(node, name, { max: 40 });
  return node;
}
