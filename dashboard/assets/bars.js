// Grouped bars by category, with their values above them where there is room.

import { colour, kept, scale, textWidth } from "./chart.js";
import { visible } from "./text.js";

const { uPlot } = window;

// Pixels: the axis of the values, a line of text that stands upright, the space between two names.
const AXIS = 52;
const LINE = 16;
const GAP = 8;

/// Grouped bars in `host`. `set(categories, series)` with series `[{ name, values }]`.
export function bars(host, { height, format }) {
  let plot = null;
  let shape = "";
  const chart = {
    set(categories, series) {
      // Where there are very many, the chart is wider than its place, which scrolls.
      host.style.minWidth = `${AXIS + categories.length * LINE}px`;
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
  const disp = (k) => ({
    x0: { unit: 1, values: () => Array.from({ length: categories }, (_, i) => i - 0.4 + k * width) },
    size: { unit: 1, values: () => [width * 0.92] },
  });
  return new uPlot(
    {
      width: Math.max(120, host.clientWidth),
      height,
      legend: { show: false },
      cursor: { show: false },
      padding: [16, 8, 0, 0],
      scales: {
        x: { time: false, range: [-0.5, categories - 0.5] },
        y: { range: (_, min, max) => [Math.min(0, min * 1.05), max > 0 ? max * 1.05 : 1] },
      },
      axes: [
        {
          ...scale(26),
          size: (u) => names(u).height,
          rotate: (u) => names(u).angle,
          grid: { show: false },
          splits: (u) => u.data[0],
          values: (u) => u.names ?? [],
        },
        { ...scale(AXIS), values: (_, splits) => splits.map(format) },
      ],
      series: [
        {},
        ...Array.from({ length: series }, (_, k) => ({
          fill: () => colour(`--series-${k % 6}`),
          stroke: null,
          width: 0,
          points: { show: false },
          paths: uPlot.paths.bars({ disp: disp(k), radius: 0.06 }),
        })),
      ],
      hooks: { draw: [(u) => label(u, format, width)] },
    },
    [[], ...Array.from({ length: series }, () => [])],
    host,
  );
}

/// Every bar has its name: lying where they all have room, else upright.
function names(u) {
  const all = u.names ?? [];
  const longest = Math.max(0, ...all.map(textWidth));
  const room = (u.width - AXIS) / Math.max(1, all.length);
  return longest + GAP <= room ? { angle: 0, height: 26 } : { angle: -90, height: Math.ceil(longest) + 14 };
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
  if (texts.flat().every((text) => ctx.measureText(text).width <= pixels))
    texts.forEach((row, k) => labelSeries(u, row, k + 1, width));
  ctx.restore();
}

function labelSeries(u, texts, k, width) {
  texts.forEach((text, i) => {
    const x = u.valToPos(i - 0.4 + (k - 0.54) * width, "x", true);
    u.ctx.fillText(text, x, u.valToPos(u.data[k][i] ?? 0, "y", true) - 2 * devicePixelRatio);
  });
}
