// End to end: a heartbeat committed in Postgres, seen in MySQL.

import { attr, byId } from "./dom.js";
import { ago, count, duration, number } from "./format.js";

export function render({ status: { latency }, now }) {
  for (const name of ["p50", "p95", "p99"]) {
    const node = byId(`latency-${name}`);
    number(node, duration(latency[`${name}_ms`]));
    attr(node, "data-ms", latency[`${name}_ms`] ?? "unknown");
  }
  number(byId("latency-last"), duration(latency.last_ms));
  ago(byId("latency-at"), latency.last_at, now);
  number(byId("latency-samples"), `${count(latency.samples)} heartbeats in ${duration(latency.window_s * 1000)}`);
}
