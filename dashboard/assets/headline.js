// The first five seconds: are the marts fresh, how old is what they show, and does this page itself still know.

import { byId, say, show } from "./dom.js";
import { clock, counted, duration, isKnown, number } from "./format.js";
import { put, visible } from "./text.js";
import { VERDICTS, badge, known } from "./verdict.js";

let announced = null;

/// Shows the overall verdict of a status that has just come.
export function render({ status }) {
  badge(byId("verdict"), status.verdict);
  byId("headline-panel").dataset.verdict = known(status.verdict);
  put(byId("headline"), status.headline, { max: 280, title: "Headline" });
  number(byId("data-age"), dataAge(status.projections));
  say(byId("verdict-counts"), tally(status.projections));
  say(byId("millrace-version"), visible(status.millrace, 20));
  show(byId("headline-was"), false);
  document.title = `${VERDICTS[known(status.verdict)]} · millrace`;
  announce(status);
}

/// How far the oldest of the projections is behind Postgres; unknown if that is unknown of any.
function dataAge(projections) {
  const lags = projections.map((projection) => projection.lag.total_ms);
  return duration(lags.length && lags.every(isKnown) ? Math.max(...lags) : null);
}

function tally(projections) {
  const counts = new Map();
  for (const { verdict } of projections) counts.set(known(verdict), (counts.get(known(verdict)) ?? 0) + 1);
  const parts = [...counts].map(
    ([verdict, n]) => `${n} ${VERDICTS[verdict].replace(/^[A-Z](?=[a-z])/, (letter) => letter.toLowerCase())}`,
  );
  return `${counted(projections.length, "projection")}${parts.length ? `: ${parts.join(", ")}` : ""}`;
}

/// Screen readers hear a change of the verdict, and nothing else by itself.
function announce({ verdict, headline }) {
  if (announced !== null && announced !== verdict)
    say(byId("announcer"), `${VERDICTS[known(verdict)]}. ${visible(headline, 200)}`);
  announced = verdict;
}

const STATES = {
  connecting: "Connecting",
  live: "Live",
  reconnecting: "Reconnecting",
  stale: "Stale",
  forbidden: "Login needed",
};

/// Shows the state of the connection; a stale page takes its verdict back, because it does not know it any more.
export function connection(state, ageMs, status) {
  const age = duration(Math.floor(ageMs / 1000) * 1000);
  document.documentElement.dataset.connection = state;
  byId("connection").dataset.connection = state;
  say(byId("connection-text"), state === "stale" ? `Stale for ${age}` : STATES[state]);
  show(byId("stale-banner"), state === "stale" || state === "forbidden");
  if (state === "stale") doubt(age, status);
  if (state === "forbidden") say(byId("stale-text"), "Log in to see the status of the pipeline.");
}

function doubt(age, status) {
  say(
    byId("stale-text"),
    status
      ? `This page is stale: no status for ${age}. Everything below is as of ${clock(status.at)}. Reconnecting by itself.`
      : `No status from the dashboard for ${age}. Trying again by itself.`,
  );
  badge(byId("verdict"), "unknown", "Stale");
  show(byId("headline-was"), Boolean(status));
  byId("headline-panel").dataset.verdict = "unknown";
  document.title = "Stale · millrace";
  if (announced !== "stale") say(byId("announcer"), "The page is stale.");
  announced = "stale";
}
