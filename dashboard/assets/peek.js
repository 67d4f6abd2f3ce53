// A look into a topic: the newest records or those from an offset on, filtered, beside what a SmartModule makes of each.

import { byId, el, enable, say, show } from "./dom.js";
import { count, counted, duration, isKnown, moment } from "./format.js";
import { indented } from "./indent.js";
import { read } from "./session.js";
import { foreign, put, visible } from "./text.js";

const CUT = 4000;
// A broker compiles a module when it is first asked for: the server waits 110 s for that, and this page a little longer.
const MODULE_MS = 120000;
const PLAIN_MS = 60000;
// Who waits longer than this is told what for.
const USUAL_MS = 3000;

let topic = null;
let answer = null;
let latest = null;
let offered = "";

export function start() {
  byId("peek-form").addEventListener("submit", (event) => {
    event.preventDefault();
    load();
  });
  byId("peek-newest").addEventListener("click", () => page(null));
  byId("peek-older").addEventListener("click", () => page(Math.max(answer.start_offset, first() - size())));
  byId("peek-newer").addEventListener("click", () => page(last() + 1));
  byId("peek-indent").addEventListener("change", () => answer && draw());
  byId("peek-module").addEventListener("change", explain);
}

/// The SmartModules that there are.
export function modules(names) {
  const key = JSON.stringify(names);
  if (key === offered) return;
  offered = key;
  const select = byId("peek-module");
  const before = select.value;
  select.replaceChildren(
    el("option", { value: "" }, "none: raw only"),
    ...names.map((name) => el("option", { value: name }, visible(name, 60))),
  );
  select.value = names.includes(before) ? before : "";
}

/// Opens the dialog on the newest records of a topic.
export function open(name) {
  topic = name;
  put(byId("peek-topic"), name, { max: 63 });
  byId("peek-start").value = "";
  byId("peek-records").replaceChildren();
  explain();
  byId("peek-dialog").showModal();
  load();
}

function explain() {
  const examples = { rows: "table=public.accounts", redact: 'policy={"public.accounts":{"email":"hash"}}' };
  show(byId("peek-params-field"), byId("peek-module").value !== "");
  const name = byId("peek-module").value.replace(/^.*\//, "").replace(/@.*$/, "");
  byId("peek-params").placeholder = examples[name] ?? "name=value";
}

function page(start) {
  byId("peek-start").value = start ?? "";
  load();
}

const size = () => Number(byId("peek-count").value);
const first = () => answer?.records.at(0)?.offset ?? answer?.end_offset ?? 0;
const last = () => answer?.records.at(-1)?.offset ?? answer?.end_offset ?? 0;

/// One `name=value` per line.
function params() {
  const lines = byId("peek-params")
    .value.split("\n")
    .map((line) => line.trim())
    .filter(Boolean);
  const pairs = lines.map((line) => [
    line.slice(0, Math.max(0, line.indexOf("="))).trim(),
    line.slice(line.indexOf("=") + 1).trim(),
  ]);
  return pairs.length ? JSON.stringify(Object.fromEntries(pairs)) : null;
}

async function load() {
  const asked = { topic, smartmodule: byId("peek-module").value };
  latest = asked;
  const waiting = tellWaiting(asked);
  try {
    const got = await read(`api/topics/${encodeURIComponent(topic)}/records`, query(asked.smartmodule), {
      timeoutMs: asked.smartmodule ? MODULE_MS : PLAIN_MS,
    });
    if (asked !== latest) return;
    answer = got;
    draw();
  } catch (failure) {
    if (asked === latest) say(byId("peek-message"), `Failed: ${visible(failure.message)}`);
  } finally {
    clearInterval(waiting);
  }
}

const query = (smartmodule) => ({
  start: byId("peek-start").value,
  count: size(),
  filter: byId("peek-filter").value,
  smartmodule,
  params: smartmodule ? params() : null,
});

/// Says what is waited for, and for how long now, until the interval that it returns is cleared.
function tellWaiting(asked) {
  const began = Date.now();
  const tell = () => {
    if (asked === latest) say(byId("peek-message"), waitedFor(asked.smartmodule, Date.now() - began));
  };
  tell();
  return setInterval(tell, 1000);
}

function waitedFor(smartmodule, ms) {
  if (!smartmodule || ms < USUAL_MS) return "Reading…";
  const since = duration(Math.floor(ms / 1000) * 1000);
  return `Waiting for ${visible(smartmodule, 60)}, ${since} so far: the broker compiles a SmartModule when it is first asked for, which may take a minute.`;
}

function draw() {
  const { records, start_offset: start, end_offset: end, error } = answer;
  const span = records.length ? `, offsets ${count(first())} to ${count(last())}` : "";
  say(byId("peek-message"), `${counted(records.length, "record")}${span}. The topic holds ${count(start)} to ${count(end)}.`);
  show(byId("peek-error"), Boolean(error));
  if (error) put(byId("peek-error"), error, { max: 300, title: "Error" });
  enable(byId("peek-older"), first() > start);
  enable(byId("peek-newer"), last() + 1 < end);
  byId("peek-records").replaceChildren(...records.toReversed().map(drawRecord));
}

function drawRecord(record) {
  const when = isKnown(record.at)
    ? el("time", { datetime: record.at }, moment(record.at))
    : el("span", { class: "unknown" }, "time unknown");
  const head = el("div", { class: "bar" }, el("strong", { class: "num" }, `Offset ${count(record.offset)}`), when);
  if (isKnown(record.key)) head.append(el("span", {}, "key ", foreign(record.key, { max: 80, title: "Key" })));
  if (record.truncated) head.append(el("span", { class: "warn" }, "cut by the server"));
  const views = el("div", { class: "views" }, view("Raw", [record.value]));
  if (isKnown(record.transformed)) views.append(view("Transformed", record.transformed));
  return el("li", { "data-offset": record.offset }, head, views);
}

function view(title, texts) {
  const shown = texts.map((text) => {
    const pre = el("pre", { tabindex: 0 });
    put(pre, byId("peek-indent").checked ? indented(text) : text, { max: CUT, title });
    return pre;
  });
  const nothing = shown.length ? [] : [el("p", { class: "quiet" }, "nothing: the SmartModule drops it")];
  return el("section", { "data-view": title.toLowerCase() }, el("h3", {}, title), ...shown, ...nothing);
}
