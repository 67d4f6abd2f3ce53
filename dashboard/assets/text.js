// Text from outside: a database, a topic, an error message. It may hold anything, and is shown so that it can neither act nor lie:
// as text nodes only, isolated from the writing direction around it, characters without a shape of their own made visible, and cut
// where it is too long, with the whole a click away.

import { attr, byId, el, say } from "./dom.js";

// Controls (C0 but line feed and tab, DEL, C1), soft hyphen, marks and overrides of direction, zero-width characters, separators,
// invisible operators, variation selectors beyond the usual, tags, the byte order mark, halves of surrogate pairs; and marks
// stacked higher than any script does, which would run over the neighbours.
const INVISIBLE_ONE = [
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f]/u,
  /[\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]/u,
  /[\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]/u,
  /\p{Surrogate}/u,
  /(?<=\p{M}{4})\p{M}/u,
]
  .map((one) => one.source)
  .join("|");
const INVISIBLE = new RegExp(`(?:${INVISIBLE_ONE})+`, "gu");
// Line feeds and tabs are kept where the layout has room for them; elsewhere they would look like a space.
const INVISIBLE_INLINE = new RegExp(`(?:${INVISIBLE_ONE}|[\\n\\t])+`, "gu");
const NAMES = { "\n": "\u21b5", "\t": "\u21e5" };
// May be broken after its underscores, and is then easier to read than broken anywhere.
const IDENTIFIER = /^[A-Za-z0-9]+(_[A-Za-z0-9]+)+$/;

const RUN_MAX = 6;
// Beyond it a whole text is shown without elements of its own for what is invisible: they would be too many.
const CHIPS_CHARACTERS_MAX = 100000;

const UNKNOWN = Symbol("unknown");
const shown = new WeakMap();

/// Puts `text` into `node`, at most `max` characters of it. `null` is unknown, and says so.
/// A node that already shows the same is left alone. `whole: false` offers no button for the rest, inside buttons.
export function put(node, text, { max = 160, title = "The whole text", whole: offer = true } = {}) {
  if (text === null || text === undefined) return unknown(node);
  const whole = String(text);
  if (shown.get(node) === whole) return;
  if (shown.get(node) === UNKNOWN) node.removeAttribute("title");
  shown.set(node, whole);
  const cut = whole.length > max;
  node.classList.add("foreign");
  node.classList.remove("unknown");
  const invisible = node.tagName === "PRE" ? INVISIBLE : INVISIBLE_INLINE;
  node.replaceChildren(...pieces(cut ? head(whole, max) : whole, invisible), ...(cut ? [offer ? more(whole, title) : "…"] : []));
}

/// "unknown", with why as far as that is known.
export function unknown(node, why = null) {
  attr(node, "title", why === null ? null : visible(why));
  if (shown.get(node) === UNKNOWN) return;
  shown.set(node, UNKNOWN);
  node.classList.add("unknown");
  node.replaceChildren("unknown");
}

/// A span with such a text in it.
export function foreign(text, options) {
  const node = el("span");
  put(node, text, options);
  return node;
}

/// The same as plain text, for attributes and for canvases: invisible characters become their code.
export function visible(text, max = 400) {
  const whole = String(text);
  const plain = head(whole, max).replace(INVISIBLE_INLINE, (run) => [...run].map((character) => `‹${code(character)}›`).join(""));
  return whole.length > max ? `${plain}…` : plain;
}

/// The text as nodes; of a run of invisible characters at most `most` one by one.
function pieces(text, invisible, most = RUN_MAX) {
  if (IDENTIFIER.test(text))
    return text.split(/(?<=_)/).flatMap((word, i) => (i ? [document.createElement("wbr"), word] : [word]));
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(invisible)) {
    if (match.index > from) nodes.push(text.slice(from, match.index));
    nodes.push(...chips([...match[0]], most));
    from = match.index + match[0].length;
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
}

function chips(characters, most) {
  const first = characters.length > most ? characters.slice(0, most - 1) : characters;
  const texts = first.map((character) => NAMES[character] ?? code(character));
  if (first.length < characters.length) texts.push(`and ${characters.length - first.length} more`);
  return texts.map((text) => el("span", { class: "ctl", title: "Characters that would not be seen as such" }, text));
}

function code(character) {
  return `U+${character.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")}`;
}

/// The first `max` characters, never half of a surrogate pair.
function head(text, max) {
  if (text.length <= max) return text;
  const last = text.charCodeAt(max - 1);
  return text.slice(0, last >= 0xd800 && last < 0xdc00 ? max - 1 : max);
}

function more(whole, title) {
  const label = `… ${whole.length.toLocaleString("en")} characters`;
  return el("button", { type: "button", class: "more", onclick: () => openWhole(whole, title) }, label);
}

function openWhole(whole, title) {
  say(byId("text-title"), title);
  const nodes = whole.length > CHIPS_CHARACTERS_MAX ? [visible(whole, whole.length)] : pieces(whole, INVISIBLE, Infinity);
  byId("text-body").replaceChildren(...nodes);
  byId("text-dialog").showModal();
}
