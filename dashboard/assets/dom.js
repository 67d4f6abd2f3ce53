// Building and changing the page. Text only ever goes in as text; nothing here takes HTML.

const SVG = "http://www.w3.org/2000/svg";

/// The element with this id of index.html.
export function byId(id) {
  return document.getElementById(id);
}

/// A new element. `props`: `on…` are listeners, everything else an attribute; null and false leave it out, true sets it empty.
export function el(tag, props = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else attr(node, name, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}

/// A cell of a table; where there is no room for columns, its label stands before it.
export function cell(label, ...nodes) {
  return el("td", { role: "cell", "data-label": label }, ...nodes);
}

/// A line that says more, below what counts.
export const lesser = (...nodes) => el("div", { class: "lesser" }, ...nodes);

/// A drawing of the sprite in index.html, for the eye only: words beside it say the same.
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(SVG, "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/// Sets an attribute if it differs: null and false remove it, true sets it empty.
export function attr(node, name, value) {
  if (value === null || value === undefined || value === false) {
    if (node.hasAttribute(name)) node.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (node.getAttribute(name) !== text) node.setAttribute(name, text);
}

/// Sets the text of a node of ours (no data from outside: see text.js) if it differs.
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

/// Shows or hides. What is hidden with the focus in it hands it on.
export function show(node, visible) {
  if (node.hidden !== visible) return;
  if (!visible) bequeath(node);
  node.hidden = !visible;
}

/// Lets a button be pressed or not. One that cannot keeps the focus, which a `disabled` one would lose, and says so to
/// screen readers.
export function enable(button, can) {
  attr(button, "aria-disabled", can ? null : "true");
}

addEventListener("click", refuse, { capture: true });
addEventListener("submit", refuse, { capture: true });

function refuse(event) {
  const button = event.submitter ?? event.target.closest?.("button");
  if (button?.getAttribute("aria-disabled") !== "true") return;
  event.preventDefault();
  event.stopImmediatePropagation();
}

/// Before a node goes away: a keyboard that is in it goes on at its heir, else at the heading of its section.
function bequeath(node) {
  if (!node.contains(document.activeElement)) return;
  const heir = heirOf(node);
  if (!heir) return;
  if (heir.tabIndex < 0) heir.setAttribute("tabindex", "-1");
  // An heir may be hidden until the end of this render.
  queueMicrotask(() => heir.focus({ preventScroll: true }));
}

function heirOf(node) {
  if (node.dataset.heir) return byId(node.dataset.heir);
  const action = document.activeElement.dataset.action;
  const beside = [node.nextElementSibling, node.previousElementSibling];
  const same = action && beside.map((row) => row?.querySelector(`[data-action="${action}"]`)).find(Boolean);
  return same || node.closest("section")?.querySelector("h2");
}

const lists = new WeakMap();

/// Keeps the children of `parent` equal to `items`: `make(item)` once per new key, `update(child, item)` always; nothing is
/// rebuilt that stays, so that focus, selection and charts survive a tick. `make` returns `{ node, … }`.
export function keep(parent, items, keyOf, make, update) {
  const old = lists.get(parent) ?? new Map();
  const now = new Map();
  const keys = items.map(keyOf);
  keys.forEach((key, i) => now.has(key) || now.set(key, old.get(key) ?? make(items[i])));
  for (const [key, child] of old) if (!now.has(key)) drop(child);
  order(parent, [...now.values()]);
  lists.set(parent, now);
  keys.forEach((key, i) => update(now.get(key), items[i]));
}

function drop(child) {
  child.gone?.();
  bequeath(child.node);
  child.node.remove();
}

function order(parent, children) {
  children.forEach((child, index) => {
    if (parent.children[index] !== child.node) parent.insertBefore(child.node, parent.children[index] ?? null);
  });
}
