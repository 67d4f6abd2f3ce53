// The topics: how much they hold, how fast they grow, and who reads them how far.

import { byId, cell, el, keep, lesser, say, show } from "./dom.js";
import { answered } from "./facts.js";
import { ago, bytes, count, counted, duration, isKnown, number, rate } from "./format.js";
import * as peek from "./peek.js";
import { put } from "./text.js";

export function render({ status, now }) {
  peek.modules(status.smartmodules?.known ?? []);
  const topics = answered("topics", status.topics);
  if (topics)
    keep(
      byId("topics-body"),
      topics,
      (topic) => topic.name,
      make,
      (row, topic) => fill(row, topic, now),
    );
}

function make({ name }) {
  const f = {
    name: el("span"),
    kind: lesser(),
    records: el("span"),
    offsets: lesser(),
    size: el("span"),
    growth: lesser(),
    rate: el("span"),
  };
  f.retention = el("span");
  f.reach = lesser();
  f.room = lesser();
  f.held = el("div", { class: "bad", hidden: true });
  f.consumers = el("ul", { class: "plain" });
  f.nobody = el("span", { class: "quiet" }, "nobody");
  const button = el("button", { type: "button", "data-peek": name, onclick: () => peek.open(name) }, "Peek");
  const node = el(
    "tr",
    { role: "row", "data-topic": name },
    el("th", { role: "rowheader", scope: "row" }, f.name, f.kind),
    cell("Records", f.records, f.offsets),
    cell("Size", f.size, f.growth),
    cell("Rate", f.rate),
    cell("Kept for", f.retention, f.reach, f.room, f.held),
    cell("Read by", f.consumers, f.nobody),
    cell("", button),
  );
  return { node, f };
}

function fill({ f }, topic, now) {
  put(f.name, topic.name, { max: 63 });
  say(f.kind, `${topic.kind}, ${counted(topic.partitions, "partition")}`);
  number(
    f.records,
    count(isKnown(topic.start_offset) && isKnown(topic.end_offset) ? topic.end_offset - topic.start_offset : null),
  );
  say(f.offsets, `offsets ${count(topic.start_offset)} to ${count(topic.end_offset)}`);
  number(f.size, bytes(topic.bytes));
  say(f.growth, isKnown(topic.bytes_per_s) ? `+ ${rate(topic.bytes_per_s, "bytes")}` : "growth unknown");
  number(f.rate, rate(topic.records_per_s, "records"));
  number(f.retention, `${seconds(topic.retention_s)}, ${bytes(topic.reach.retention_bytes)}`);
  fillReach(f, topic.reach);
  show(f.nobody, topic.consumers.length === 0);
  keep(
    f.consumers,
    topic.consumers,
    (consumer) => consumer.name,
    makeConsumer,
    (row, consumer) => fillConsumer(row, consumer, now),
  );
}

const seconds = (s) => duration(isKnown(s) ? s * 1000 : null);

/// How far back it goes, and for how long that will do at the present rate.
function fillReach(f, reach) {
  number(f.reach, `goes back ${seconds(reach.reach_s)}`);
  number(f.room, `when full, at this rate: ${seconds(reach.at_rate_s)}`);
  show(f.held, isKnown(reach.held_by));
  if (reach.held_by) put(f.held, `kept beyond that for ${reach.held_by.consumer}`, { max: 80 });
}

function makeConsumer() {
  const parts = { name: el("strong"), lag: el("span"), at: el("time") };
  return { node: el("li", {}, parts.name, " ", parts.lag, " ", el("span", { class: "lesser" }, parts.at)), ...parts };
}

/// A consumer publishes its offset now and then: what it is behind by that is as old as the offset, and says so.
function fillConsumer({ name, lag, at }, consumer, now) {
  put(name, consumer.name, { max: 40 });
  const behind = consumer.lag_records === 0 ? "at the end" : `${counted(consumer.lag_records, "record")} behind`;
  number(lag, `${behind} by the offset ${count(consumer.offset)} that it published`);
  ago(at, consumer.at, now);
}
