// A line over time: small beside its numbers, or large with axes.

import { colour, kept, scale } from "./chart.js";
import { clock, day } from "./format.js";

const { uPlot } = window;

/// A line over time in `host`, gaps where the value is null. `onCursor(index | null)` as the pointer moves; `axes(value)` words the
/// values of the scale, null draws none.
/// `set(at, values, from, to)`: epoch ms, values, and the span shown.
export function spark(host, { variable, height, onCursor, axes = null }) {
  let span = [0, 1];
  const plot = new uPlot(
    {
      width: Math.max(40, host.clientWidth),
      height,
      padding: axes ? [12, 12, 0, 0] : [3, 3, 2, 3],
      legend: { show: false },
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 5 } },
      axes: axes
        ? [
            { ...scale(28), values: times },
            { ...scale(72), values: (_, splits) => splits.map(axes) },
          ]
        : [{ show: false }, { show: false }],
      scales: { x: { time: true, range: () => span }, y: { range: (_, __, max) => [0, max > 0 ? max * 1.08 : 1] } },
      series: [
        {},
        {
          stroke: () => colour(variable),
          fill: () => colour(variable, 0.16),
          width: 1.25,
          points: { show: true, size: 3, fill: () => colour(variable), filter: lonely },
        },
      ],
      hooks: { setCursor: [(u) => onCursor(u.cursor.idx ?? null)] },
    },
    [[], []],
    host,
  );
  return kept(host, plot, height, {
    set(at, values, from, to) {
      span = [from / 1000, to / 1000];
      plot.setData([at.map((ms) => ms / 1000), values]);
    },
  });
}

/// Hours and minutes, seconds where they matter, and the date at midnight.
function times(_, splits, __, ___, step) {
  return splits.map((at) => {
    const moment = new Date(at * 1000);
    if (moment.getHours() + moment.getMinutes() + moment.getSeconds() === 0) return day.format(moment);
    return step < 60 ? clock(moment) : clock(moment).slice(0, 5);
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
