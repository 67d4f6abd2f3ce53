// JSON with line breaks. It only adds white space: parsing would round large numbers and merge repeated keys.

const TOKENS = /"(?:[^"\\]|\\.)*"?|[[\]{},:]|[^\s[\]{},:"]+/gs;

/// The text with white space between its tokens, or the text itself if it does not look like JSON.
export function indented(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  const tokens = text.match(TOKENS) ?? [];
  const state = { depth: 0 };
  return tokens.map((token, i) => laidOut(state, token, tokens[i - 1], tokens[i + 1])).join("");
}

const opens = (token) => token === "[" || token === "{";
const closes = (token) => token === "]" || token === "}";

function laidOut(state, token, before, after) {
  if (opens(token)) {
    state.depth += 1;
    return closes(after) ? token : token + line(state.depth);
  }
  if (closes(token)) {
    state.depth = Math.max(0, state.depth - 1);
    return opens(before) ? token : line(state.depth) + token;
  }
  if (token === ",") return token + line(state.depth);
  return token === ":" ? ": " : token;
}

const line = (depth) => `\n${"  ".repeat(depth)}`;
