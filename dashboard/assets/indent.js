// JSON with line breaks. It only adds white space: parsing would round large numbers and merge repeated keys.

const STEP = "  ";

/// The text with white space added between its tokens, or the text itself if it does not look like JSON.
export function indented(text) {
  if (!/^\s*[[{]/.test(text)) return text;
  const tokens = text.match(/"(?:[^"\\]|\\.)*"?|[[\]{},:]|[^\s[\]{},:"]+/gs) ?? [];
  let depth = 0;
  let out = "";
  tokens.forEach((token, i) => {
    const empty = "[{".includes(token) && "]}".includes(tokens[i + 1] ?? " ");
    if ("]}".includes(token)) out += "[{".includes(tokens[i - 1] ?? " ") ? ((depth = Math.max(0, depth - 1)), token) : line(--depth) + token;
    else if ("[{".includes(token)) out += token + (empty ? ((depth += 1), "") : line(++depth));
    else if (token === ",") out += token + line(depth);
    else out += token === ":" ? ": " : token;
  });
  return out;
}

const line = (depth) => `\n${STEP.repeat(Math.max(0, depth))}`;
