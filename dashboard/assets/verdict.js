// The verdicts: each has a word, a shape and a colour, so that the colour is never the only sign.

import { attr, el, icon } from "./dom.js";

/// Worst last, as the server orders them.
export const VERDICTS = {
  ok: "OK",
  catching_up: "Catching up",
  falling_behind: "Falling behind",
  stalled: "Stalled",
  stopped: "Stopped",
  rewound: "Rewound",
  unknown: "Unknown",
  different: "Different",
};

/// A verdict of a newer server than this page is unknown to it.
export const known = (verdict) => (verdict in VERDICTS ? verdict : "unknown");

/// Makes `node` a badge of this verdict; `word` replaces the usual one.
export function badge(node, verdict, word = VERDICTS[known(verdict)]) {
  const is = known(verdict);
  if (node.dataset.verdict === is && node.lastChild?.textContent === word) return;
  node.classList.add("badge");
  attr(node, "data-verdict", is);
  node.replaceChildren(icon(is), el("span", {}, word));
}
