// Text from outside: a database, a topic, an error message. It may hold anything, and is shown so that it can neither act nor lie:
// as text nodes only, isolated from the writing direction around it, characters without a shape of their own made visible, and cut
// where it is too long, with the whole a click away.

import { byId, el, say } from "./dom.js";

// Controls (C0 but line feed and tab, DEL, C1), soft hyphen, marks and overrides of direction, zero-width characters, separators,
// invisible operators, variation selectors beyond the usual, tags, the byte order mark, halves of surrogate pairs.
const INVISIBLE =
  /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u3164\ufeff\uffa0\ufff0-\ufffb]|[\u{1d173}-\u{1d17a}\u{e0000}-\u{e0fff}]|\p{Surrogate}/gu;

const shown = new WeakMap();

/// Puts `text` into `node`, at most `max` characters of it. `null` is unknown, and says so.
/// A node that already shows the same is left alone.
export function put(node, text, { max = 160, title = "The whole text" } = {}) {
  if (text === null || text === undefined) return unknown(node);
  const whole = String(text);
  if (shown.get(node) === whole) return;
  shown.set(node, whole);
  const cut = whole.length > max;
  node.classList.add("foreign");
  node.classList.remove("unknown");
  node.replaceChildren(...pieces(cut ? head(whole, max) : whole), ...(cut ? [more(whole, title)] : []));
}

/// "unknown", with why as far as that is known.
export function unknown(node, why = null) {
  const key = `\u0000unknown ${why}`;
  if (shown.get(node) === key) return;
  shown.set(node, key);
  node.classList.add("unknown");
  node.replaceChildren("unknown");
  if (why) node.title = visible(why);
  else node.removeAttribute("title");
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
  const plain = head(whole, max).replace(INVISIBLE, (character) => `‹${code(character)}›`);
  return whole.length > max ? `${plain}…` : plain;
}

function pieces(text) {
  const nodes = [];
  let from = 0;
  for (const match of text.matchAll(INVISIBLE)) {
    if (match.index > from) nodes.push(text.slice(from, match.index));
    nodes.push(el("span", { class: "ctl", title: "A character that would not be seen" }, code(match[0])));
    from = match.index + match[0].length;
  }
  if (from < text.length) nodes.push(text.slice(from));
  return nodes;
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
  byId("text-body").replaceChildren(...pieces(whole));
  byId("text-dialog").showModal();
}
