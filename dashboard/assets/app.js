// The page: one stream of statuses, one render per status, a panel each of which stands for itself.

import { byId } from "./dom.js";
import * as down from "./down.js";
import * as headline from "./headline.js";
import * as history from "./history.js";
import * as latency from "./latency.js";
import * as live from "./live.js";
import * as marts from "./marts.js";
import * as peek from "./peek.js";
import * as pipeline from "./pipeline.js";
import * as projections from "./projections.js";
import * as rejected from "./rejected.js";
import * as session from "./session.js";
import * as source from "./source.js";
import * as tables from "./tables.js";
import * as topics from "./topics.js";
import * as verify from "./verify.js";
import * as zoom from "./zoom.js";

const panels = [headline, down, pipeline, projections, tables, source, latency, verify, rejected, marts, topics, zoom];

let status = null;
let planned = false;

function plan(next) {
  status = next;
  history.note(next);
  replan();
}

function replan() {
  if (planned || status === null) return;
  planned = true;
  requestAnimationFrame(render);
}

/// A panel that fails must not take the others with it.
function render() {
  planned = false;
  const now = live.serverNow();
  for (const panel of panels) {
    try {
      panel.render({ status, now });
    } catch (error) {
      console.error(error);
    }
  }
  document.documentElement.dataset.rendered = status.at;
}

let state = "connecting";

function connection(next, ageMs) {
  if (next === "live" && state !== "live") history.forget();
  state = next;
  headline.connection(next, ageMs, status);
}

/// Dialogs close on their buttons of that kind, and where one presses beside them.
function closable(dialog) {
  for (const button of dialog.querySelectorAll("[data-close]")) button.addEventListener("click", () => dialog.close());
  dialog.addEventListener("pointerdown", (event) => event.target === dialog && dialog.close());
}

async function start() {
  document.querySelectorAll("dialog").forEach(closable);
  session.start();
  await session.refresh().catch(() => null);
  session.onSession(live.reopen);
  history.start(replan);
  for (const part of [projections, verify, rejected, marts, peek, zoom]) part.start();
  live.start({ onStatus: plan, onConnection: connection });
  byId("main").removeAttribute("aria-busy");
  if (!session.mayRead()) session.login();
}

start();
