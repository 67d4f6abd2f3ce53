// The stream of statuses: one connection, which comes back by itself, and the truth about how old the last status is.
// A status counts only if its time moved: a dashboard that repeats itself is as stale as one that is silent.

import { mayRead, refresh } from "./session.js";

const STALE_TICKS = 3;
const DEAD_TICKS = 10;
const CHECK_MS = 500;
const RETRY_MS_MAX = 10000;

let source = null;
let last = null;
let receivedAt = null;
let openedAt = 0;
let resumedAt = Date.now();
let retryMs = 500;
let retryTimer = null;
let state = "connecting";
let handlers = null;

/// Starts. `onStatus(status)` for each new one; `onConnection(state, age_ms)` when the state changes and, while it is not live,
/// twice per second. States: connecting, live, reconnecting, stale, forbidden. A hidden tab is disconnected and does nothing.
export function start(given) {
  handlers = given;
  setInterval(check, CHECK_MS);
  document.addEventListener("visibilitychange", () => (document.hidden ? close() : resume()));
  open();
}

/// A tab that comes back gets its three ticks to connect before it is called stale.
function resume() {
  resumedAt = Date.now();
  open();
}

/// Connects anew, after a login or logout.
export function reopen() {
  close();
  open();
}

/// Now by the server's clock, in epoch ms: the viewer's may be wrong.
export function serverNow() {
  return last === null ? Date.now() : Date.parse(last.at) + Date.now() - receivedAt;
}

function open() {
  clearTimeout(retryTimer);
  if (document.hidden || source) return;
  if (!mayRead()) return check();
  openedAt = Date.now();
  source = new EventSource("api/events");
  source.addEventListener("status", (event) => receive(event.data));
  source.addEventListener("error", broken);
  check();
}

function close() {
  clearTimeout(retryTimer);
  source?.close();
  source = null;
}

function receive(data) {
  const status = JSON.parse(data);
  if (last !== null && status.at === last.at) return;
  last = status;
  receivedAt = Date.now();
  retryMs = 500;
  check();
  handlers.onStatus(status);
}

/// The browser reconnects a broken stream by itself, but not one that was refused: that is ours.
function broken() {
  if (source?.readyState === EventSource.CLOSED) retryLater();
  check();
}

function retryLater() {
  close();
  const wait = retryMs * (0.75 + Math.random() / 2);
  retryMs = Math.min(RETRY_MS_MAX, retryMs * 2);
  retryTimer = setTimeout(
    () =>
      refresh()
        .catch(() => null)
        .finally(open),
    wait,
  );
}

function check() {
  if (document.hidden) return;
  const tick = last?.tick_ms ?? 1000;
  const age = Date.now() - Math.max(receivedAt ?? 0, resumedAt);
  if (source && Date.now() - Math.max(openedAt, receivedAt ?? 0) > Math.max(DEAD_TICKS * tick, 10000)) retryLater();
  const next = judge(age > STALE_TICKS * tick);
  if (next === state && next === "live") return;
  state = next;
  handlers.onConnection(next, Date.now() - (receivedAt ?? resumedAt));
}

function judge(late) {
  if (!mayRead()) return "forbidden";
  if (late) return "stale";
  if (last === null) return "connecting";
  return source?.readyState === EventSource.OPEN ? "live" : "reconnecting";
}
