// Buttons that change something: busy while it lasts, and the outcome said beside them.

import { byId, enable, say } from "./dom.js";
import { act } from "./session.js";
import { visible } from "./text.js";

const SAID_MS = 15000;

/// Posts to `path` on behalf of `button` and says the outcome in `message`; `said(answer)` words the success.
/// Resolves to whether it was done.
export async function run(button, message, path, said) {
  enable(button, false);
  try {
    const answer = await act(path);
    report(message, answer === null ? "Not done: it needs a login." : said(answer));
    return answer !== null;
  } catch (failure) {
    report(message, `Failed: ${visible(failure.message)}`, true);
    return false;
  } finally {
    enable(button, true);
  }
}

/// Says how an action ended.
export function report(message, text, bad = false) {
  const node = byId(message);
  node.classList.toggle("bad", bad);
  say(node, text);
  clearTimeout(node.forget);
  if (!bad) node.forget = setTimeout(() => say(node, ""), SAID_MS);
}

/// Asks before what cannot be taken back; true: go on. The dialog opens with the focus on "Cancel".
export function confirmed(question, word) {
  const dialog = byId("confirm-dialog");
  say(byId("confirm-text"), question);
  say(byId("confirm-yes"), word);
  dialog.returnValue = "";
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(dialog.returnValue === "yes"), { once: true });
  });
}
