// What all charts share: they are drawn by uPlot (vendor/), in colours of the style sheet's variables, so that a change of theme is a
// redraw, and they follow the width of their host. Each has its text beside it; what is drawn is for the eye only.

const charts = new Set();
const probe = document.createElement("span");
const resized = new ResizeObserver((entries) => entries.forEach(({ target }) => target.fit?.()));

addEventListener("themechange", () => charts.forEach((chart) => chart.redraw(false)));

/// The colour that a variable of the style sheet has now; `alpha` 0…1.
export function colour(variable, alpha = 1) {
  if (!probe.isConnected) document.body.append(probe);
  probe.hidden = true;
  probe.style.color = `var(${variable})`;
  const rgb = getComputedStyle(probe).color;
  return alpha === 1 ? rgb : `color-mix(in srgb, ${rgb} ${alpha * 100}%, transparent)`;
}

const FONT = "12px system-ui, sans-serif";
const ruler = document.createElement("canvas").getContext("2d");

/// How many pixels a text takes on an axis.
export function textWidth(text) {
  ruler.font = FONT;
  return ruler.measureText(text).width;
}

/// An axis of that many pixels.
export const scale = (size) => ({
  size,
  stroke: () => colour("--muted"),
  font: FONT,
  ticks: { show: false },
  grid: { stroke: () => colour("--line"), width: 1 },
});

/// Follows the width of its host until `gone`.
export function kept(host, chart, height, api) {
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
