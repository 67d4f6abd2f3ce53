// The ends of the pipeline as facts: Postgres with its slot and heartbeat, capture, MySQL, ingest.

import { attr, byId, show } from "./dom.js";
import { answered, facts } from "./facts.js";
import { bytes, count, counted, duration, isKnown, rate } from "./format.js";

export function render({ status, now }) {
  postgres(status.source, now);
  capture(status.capture, now);
  mysql(status.target, now);
  ingest(status.ingest, now);
}

function postgres(answer, now) {
  const source = answered("source", answer);
  if (!source) return;
  facts(byId("source-facts"), now, [
    { label: "Server", foreign: source.server },
    { label: "Database", foreign: source.database },
    { label: "WAL at", foreign: source.lsn },
    { label: "WAL written", text: rate(source.wal_bytes_per_s, "bytes") },
    ...(source.slot ? slotFacts(source.slot) : [{ label: "Slot", foreign: "none", note: "capture has not made one" }]),
    ...(source.heartbeat ? heartbeatFacts(source.heartbeat) : [{ label: "Heartbeat", text: "off" }]),
  ]);
  meter(source.slot);
}

function slotFacts(slot) {
  return [
    { label: "Slot", foreign: slot.name, note: slot.active ? "active" : "nobody reads it" },
    { label: "WAL status", foreign: slot.wal_status, note: WAL_STATUS[slot.wal_status] },
    { label: "Confirmed LSN", foreign: slot.confirmed_lsn },
    { label: "Restart LSN", foreign: slot.restart_lsn },
    { label: "Not confirmed yet", text: bytes(slot.behind_bytes) },
    { label: "Last feedback", at: slot.last_feedback_at },
  ];
}

const WAL_STATUS = {
  reserved: "within max_wal_size",
  extended: "beyond max_wal_size, still kept",
  unreserved: "about to be removed",
  lost: "the slot is dead: run millrace tables begin-again",
};

function heartbeatFacts(heartbeat) {
  return [
    { label: "Last heartbeat", at: heartbeat.last_at, note: `every ${duration(heartbeat.period_ms)}` },
    {
      label: "Not seen in MySQL",
      text: counted(heartbeat.outstanding, "heartbeat"),
    },
    isKnown(heartbeat.oldest_outstanding_at) ? { label: "Oldest of them", at: heartbeat.oldest_outstanding_at } : null,
  ];
}

/// What the slot keeps of what it may keep: the bar is full when the slot dies.
function meter(slot) {
  show(byId("wal"), Boolean(slot));
  if (!slot) return;
  const { retained_bytes: retained, left_bytes: left } = slot;
  const bounded = isKnown(retained) && isKnown(left);
  const bar = byId("wal-bar");
  show(bar, bounded);
  attr(bar, "value", bounded ? retained : null);
  attr(bar, "max", bounded ? Math.max(1, retained + left) : null);
  attr(bar, "data-level", level(slot, bounded ? left / Math.max(1, retained + left) : 1));
  byId("wal-retained").textContent = bytes(retained);
  byId("wal-left").textContent = bounded ? `${bytes(left)} left before the slot dies` : "no limit set on what it may retain";
}

function level(slot, share) {
  if (slot.wal_status === "lost" || slot.wal_status === "unreserved" || share < 0.1) return "bad";
  return share < 0.3 ? "warn" : "good";
}

function capture(answer, now) {
  const capture = answered("capture", answer);
  if (!capture) return;
  facts(byId("capture-facts"), now, [
    { label: "State", foreign: capture.state },
    { label: "Epoch", text: count(capture.epoch), note: "starts so far" },
    { label: "In the topic up to", foreign: capture.last_lsn },
    { label: "Received up to", foreign: capture.received_lsn },
    { label: "Transactions", text: count(capture.transactions), note: rate(capture.transactions_per_s, "transactions") },
    { label: "Sessions", text: count(capture.sessions), note: "connections to Postgres since its start" },
    capture.last_error ? { label: "Last error", error: capture.last_error } : null,
  ]);
}

function mysql(answer, now) {
  const target = answered("target", answer);
  if (!target) return;
  facts(byId("target-facts"), now, [
    { label: "Server", foreign: target.server },
    { label: "Database", foreign: target.database },
    { label: "Applied up to", foreign: target.applied_lsn },
  ]);
}

function ingest(answer, now) {
  show(byId("ingest-panel"), answer !== null);
  const ingest = answered("ingest", answer);
  if (!ingest) return;
  facts(byId("ingest-facts"), now, [
    { label: "State", foreign: ingest.state },
    { label: "Behind", text: counted(ingest.behind_events, "event"), note: rate(ingest.events_per_s, "events") },
    { label: "Next offset", text: count(ingest.next_offset) },
    { label: "End of the topic", text: count(ingest.end_offset) },
    { label: "Refused since its start", text: count(ingest.rejected) },
    ingest.last_error ? { label: "Last error", error: ingest.last_error } : null,
  ]);
}
