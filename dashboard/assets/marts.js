// The marts themselves: choose, sort, search, page; they move as orders come in. Read at most once per second, only when the applied
// LSN moved and somebody looks.

import { attr, byId, el, enable, keep, say, show } from "./dom.js";
import { count, counted } from "./format.js";
import { inView } from "./inview.js";
import * as martchart from "./martchart.js";
import { Grid } from "./martgrid.js";
import { mayRead, read } from "./session.js";
import { foreign, put, visible } from "./text.js";

const REFETCH_MS_MIN = 1000;
const LIST_MS = 10000;
const SEARCH_WAIT_MS = 250;

let panel = null;
let grid = null;
let marts = [];
let query = null;
let lsn = null;
let shownLsn = null;
let fetchedAt = 0;
let listedAt = 0;
let fetching = false;
let again = null;
let searching = null;

export function start() {
  panel = inView(byId("marts-panel"), refresh);
  grid = new Grid(byId("marts-head"), byId("marts-body"), sort);
  byId("marts-search").addEventListener("input", (event) => {
    clearTimeout(searching);
    searching = setTimeout(() => ask({ search: event.target.value, offset: 0 }), SEARCH_WAIT_MS);
  });
  byId("marts-limit").addEventListener("change", (event) => ask({ limit: Number(event.target.value), offset: 0 }));
  byId("marts-previous").addEventListener("click", () => ask({ offset: Math.max(0, query.offset - query.limit) }));
  byId("marts-next").addEventListener("click", () => ask({ offset: query.offset + query.limit }));
}

export function render({ status }) {
  lsn = status.target?.known?.applied_lsn ?? null;
  refresh();
}

/// Reads again what is shown, if there is anything new and not sooner than a second after the last time.
function refresh() {
  if (!panel.visible || document.hidden || fetching || !mayRead()) return;
  if (shownLsn !== null && (lsn === null || lsn === shownLsn)) return;
  clearTimeout(again);
  const wait = fetchedAt + REFETCH_MS_MIN - Date.now();
  if (wait > 0) again = setTimeout(refresh, wait);
  else load();
}

async function load() {
  fetching = true;
  fetchedAt = Date.now();
  const asked = lsn;
  let failed = false;
  try {
    if (Date.now() - listedAt > LIST_MS) await list();
    if (query) await draw(query);
    shownLsn = asked ?? "unknown";
    show(byId("marts-error"), false);
  } catch (failure) {
    failed = true;
    // The next status asks again, at its own pace.
    shownLsn = null;
    if (query) query.dirty = false;
    say(byId("marts-error"), `The marts cannot be read: ${visible(failure.message)}`);
    show(byId("marts-error"), true);
  } finally {
    fetching = false;
  }
  if (!failed && query?.dirty) load();
}

async function list() {
  marts = await read("api/marts");
  listedAt = marts.length ? Date.now() : 0;
  say(byId("marts-none"), "No mart is live yet.");
  show(byId("marts-none"), marts.length === 0);
  show(byId("marts-known"), marts.length > 0);
  keep(byId("marts-tabs"), marts, (mart) => mart.name, makeTab, fillTab);
  if (marts.length && !marts.some((mart) => mart.name === query?.name)) choose(marts[0].name);
}

function makeTab({ name }) {
  const rows = el("span", { class: "count num" });
  const node = el(
    "button",
    { type: "button", "data-mart": name, onclick: () => ask(fresh(name)) },
    foreign(name, { max: 50, whole: false }),
    rows,
  );
  return { node, rows };
}

function fillTab({ node, rows }, mart) {
  say(rows, count(mart.rows));
  attr(node, "aria-pressed", String(mart.name === query?.name));
}

const fresh = (name) => ({ name, sort: null, dir: null, search: "", offset: 0 });

function choose(name) {
  query = { ...fresh(name), limit: Number(byId("marts-limit").value) };
  byId("marts-search").value = "";
}

/// Changes what is asked for, and reads it at once.
function ask(change) {
  query = { ...query, ...change, dirty: true };
  if (change.name) byId("marts-search").value = "";
  for (const tab of byId("marts-tabs").children) attr(tab, "aria-pressed", String(tab.dataset.mart === query.name));
  grid.forget();
  if (!fetching) load();
}

function sort(column) {
  const dir = query.sort === column && query.dir === "asc" ? "desc" : "asc";
  ask({ sort: column, dir, offset: 0 });
}

async function draw(asked) {
  asked.dirty = false;
  const { name, sort, dir, search, offset, limit } = asked;
  const path = `api/marts/${encodeURIComponent(name)}`;
  const [page, chart] = await Promise.all([
    read(path, { sort, dir, search, offset, limit }),
    read(`${path}/chart`).catch((failure) => failure),
  ]);
  if (asked !== query) return;
  put(byId("marts-caption"), name, { max: 60 });
  grid.show(page, asked);
  martchart.draw(chart);
  pager(page, asked);
  const row = marts.find((mart) => mart.name === name);
  if (row && !search) row.rows = page.total;
  keep(byId("marts-tabs"), marts, (mart) => mart.name, makeTab, fillTab);
}

function pager({ rows, total, lsn: at }, { offset, limit, search }) {
  const span = rows.length ? `${count(offset + 1)} to ${count(offset + rows.length)} of ${counted(total, "row")}` : "No rows";
  say(byId("marts-span"), `${span}${search ? " that match" : ""}`);
  put(byId("marts-lsn"), at, { max: 30 });
  enable(byId("marts-previous"), offset > 0);
  enable(byId("marts-next"), offset + limit < total);
}
