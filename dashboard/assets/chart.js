// Charts, drawn by uPlot (vendor/): a sparkline over time and bars by category. Colours come from the style sheet's variables, so
// that a change of theme is a redraw. Each has its text beside it; what is drawn is for the eye only.

import { clock, day } from "./format.js";
import { visible } from "./text.js";

const { uPlot } = window;
const charts = new Set();
const probe = document.createElement("span");
const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => target.fit?.()));

addEventListener("themechange", () => charts.forEach((chart) => chart.redraw(false)));

/// The colour that a variable of the style sheet has now; `alpha` 0…1.
function colour(variable, alpha = 1) {
  if (!probe.isConnected) document.body.append(probe);
  probe.hidden = true;
  probe.style.color = `var(${variable})`;
  const rgb = getComputedStyle(probe).color;
  return alpha === 1 ? rgb : `color-mix(in srgb, ${rgb} ${alpha * 100}%, transparent)`;
}

/// A line over time in `host`, gaps where the value is null. `onCursor(index | null)` as the pointer moves; `axes(value)` words the
/// values of the scale, null draws none.
/// `set(at, values, from, to)`: epoch ms, values, and the span shown.
export function spark(host, { variable, height, onCursor, axes = null }) {
  let span = [0, 1];
  const plot = new uPlot({
    width: Math.max(40, host.clientWidth),
    height,
    padding: axes ? [12, 12, 0, 0] : [3, 3, 2, 3],
    legend: { show: false },
    cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 } },
    axes: axes ? [{ ...scale(28), values: times }, { ...scale(72), values: (_, splits) => splits.map(axes) }] : [{ show: false }, { show: false }],
    scales: { x: { time: true, range: () => span }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
    series: [{}, {
      stroke: () => colour(variable), fill: () => colour(variable, 0.16), width: 1.25,
      points: { show: true, size: 3, fill: () => colour(variable), filter: lonely },
    }],
    hooks: { setCursor: [(u) => onCursor(u.cursor.idx ?? null)] },
  }, [[], []], host);
  return kept(host, plot, height, {
    set(at, values, from, to) {
      span = [from / 1000, to / 1000];
      plot.setData([at.map((ms) => ms / 1000), values]);
    },
  });
}

const scale = (size) => ({
  size, stroke: () => colour("--muted"), font: "12px system-ui, sans-serif", ticks: { show: false }, grid: { stroke: () => colour("--line"), width: 1 },
});

/// Hours and minutes, seconds where they matter, and the date at midnight.
function times(_, splits, __, ___, step) {
  return splits.map((at) => {
    const moment = new Date(at * 1000);
    if (moment.getHours() + moment.getMinutes() + moment.getSeconds() === 0) return day.format(moment);
    return (step < 60 ? clock(moment) : clock(moment).slice(0, 5));
  });
}

/// Points between two gaps would not be seen as a line.
function lonely(u, index) {
  const values = u.data[index];
  const found = [];
  for (let i = 0; i < values.length; i++) {
    if (values[i] !== null && (values[i - 1] ?? null) === null && (values[i + 1] ?? null) === null) found.push(i);
  }
  return found;
}

/// Grouped bars in `host`. `set(categories, series)` with series `[{ name, values }]`.
export function bars(host, { height, format }) {
  let plot = null;
  let shape = "";
  const chart = {
    set(categories, series) {
      const next = `${categories.length}/${series.length}`;
      if (next !== shape) {
        plot?.destroy();
        plot = barPlot(host, height, format, categories.length, series.length);
        shape = next;
      }
      plot.names = categories.map((name) => visible(name, 18));
      plot.setData([categories.map((_, i) => i), ...series.map(({ values }) => values)]);
    },
    redraw: () => plot?.redraw(false, true),
    setSize: (size) => plot?.setSize(size),
    destroy: () => plot?.destroy(),
  };
  return kept(host, chart, height, { set: chart.set });
}

function barPlot(host, height, format, categories, series) {
  const width = 0.8 / series;
  const disp = (k) => ({ x0: { unit: 1, values: () => Array.from({ length: categories }, (_, i) => i - 0.4 + k * width) }, size: { unit: 1, values: () => [width * 0.92] } });
  return new uPlot({
    width: Math.max(120, host.clientWidth),
    height,
    legend: { show: false },
    cursor: { show: false },
    padding: [16, 8, 0, 0],
    scales: { x: { time: false, range: [-0.5, categories - 0.5] }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.05 : 1] } },
    axes: [
      { ...scale(26), grid: { show: false }, splits: (u) => u.data[0], values: (u) => thinned(u.names ?? [], u.width) },
      { ...scale(52), values: (_, splits) => splits.map(format) },
    ],
    series: [{}, ...Array.from({ length: series }, (_, k) => ({
      fill: () => colour(`--series-${k % 6}`), stroke: null, width: 0, points: { show: false }, paths: uPlot.paths.bars({ disp: disp(k), radius: 0.06 }),
    }))],
    hooks: { draw: [(u) => label(u, format, width)] },
  }, [[], ...Array.from({ length: series }, () => [])], host);
}

/// Every n-th name, so that they do not run into each other.
function thinned(names, width) {
  const longest = Math.max(1, ...names.map((name) => name.length));
  const step = Math.max(1, Math.ceil((names.length * longest * 7.5) / Math.max(1, width - 60)));
  return names.map((name, i) => (i % step ? "" : name));
}

/// The value above each bar, if all bars are wide enough for theirs.
function label(u, format, width) {
  const { ctx } = u;
  const pixels = u.valToPos(width, "x", true) - u.valToPos(0, "x", true);
  ctx.save();
  ctx.fillStyle = colour("--text");
  ctx.textAlign = "center";
  ctx.textBaseline = "bottom";
  ctx.font = `${11 * devicePixelRatio}px system-ui, sans-serif`;
  const texts = u.data.slice(1).map((values) => values.map((value) => (value === null ? "" : format(value))));
  if (texts.flat().every((text) => ctx.measureText(text).width <= pixels)) texts.forEach((row, k) => labelSeries(u, row, k + 1, width));
  ctx.restore();
}

function labelSeries(u, texts, k, width) {
  texts.forEach((text, i) => {
    const x = u.valToPos(i - 0.4 + (k - 0.54) * width, "x", true);
    u.ctx.fillText(text, x, u.valToPos(u.data[k][i] ?? 0, "y", true) - 2 * devicePixelRatio);
  });
}

/// Follows the width of its host until `gone`.
function kept(host, chart, height, api) {
  host.fit = () => chart.setSize({ width: Math.max(40, host.clientWidth), height });
  resized.observe(host);
  charts.add(chart);
  return {
    ...api,
    gone() {
      resized.unobserve(host);
      charts.delete(chart);
      chart.destroy();
    },
  };
}
