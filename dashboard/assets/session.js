// Who looks: the login dialog, the CSRF token, and requests that may need them. The token lives in memory only; the session's
// cookie is HttpOnly and never seen here.

import { Failure, get, post } from "./api.js";
import { byId, enable, say, show } from "./dom.js";
import { visible } from "./text.js";

let session = { logged_in: false, user: null, csrf: null, reading_needs_login: false };
let asking = null;
let declined = false;
const listeners = new Set();

/// Calls `listener` after every login and logout.
export function onSession(listener) {
  listeners.add(listener);
}

/// Whether the page may read at all.
export const mayRead = () => session.logged_in || !session.reading_needs_login;

/// Reads the session again from the server.
export async function refresh() {
  adopt(await get("api/session"));
}

/// Reads; asks for a login where reading needs one, unless the person has just declined it.
export async function read(path, query, options) {
  try {
    return await get(path, query, options);
  } catch (failure) {
    if (failure.status !== 401 || declined || !(await login())) throw failure;
    return get(path, query, options);
  }
}

/// Changes something. Asks for a login if there is none or it has expired, and then does it; null: the person declined.
export async function act(path) {
  if (!session.logged_in && !(await login())) return null;
  try {
    return await post(path, { csrf: session.csrf });
  } catch (failure) {
    if (!(await renewed(failure))) throw failure;
    return post(path, { csrf: session.csrf });
  }
}

/// 401: the login expired; 403: the token did (the dashboard was restarted).
async function renewed(failure) {
  if (failure.status !== 401 && failure.status !== 403) return false;
  await refresh();
  return session.logged_in || login();
}

/// Opens the login dialog, or joins the one that is open; true once logged in, false if dismissed.
export function login() {
  if (!asking) asking = ask().finally(() => (asking = null));
  return asking;
}

function ask() {
  const dialog = byId("login-dialog");
  show(byId("login-error"), false);
  dialog.showModal();
  byId(byId("login-user").value ? "login-password" : "login-user").focus();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => resolve(closed()), { once: true });
  });
}

function closed() {
  byId("login-password").value = "";
  declined = !session.logged_in;
  return session.logged_in;
}

async function submit(event) {
  event.preventDefault();
  const body = { user: byId("login-user").value, password: byId("login-password").value };
  enable(byId("login-submit"), false);
  try {
    adopt(await post("api/login", { body }));
    byId("login-dialog").close();
    // The button that opened it is gone.
    if (document.activeElement === document.body) byId("logout").focus();
  } catch (failure) {
    refuse(failure);
  } finally {
    enable(byId("login-submit"), true);
  }
}

function refuse(failure) {
  const texts = { 401: "User or password is wrong.", 429: "Too many attempts. Wait a minute, then try again." };
  if (!(failure instanceof Failure)) throw failure;
  say(byId("login-error"), texts[failure.status] ?? `Login failed: ${visible(failure.message)}`);
  show(byId("login-error"), true);
  byId("login-password").select();
}

/// What only those who are logged in may read does not stay on the screen.
async function logout() {
  await post("api/logout", { csrf: session.csrf }).catch(() => null);
  await refresh().catch(() => adopt({ ...session, logged_in: false, user: null, csrf: null }));
  if (!mayRead()) location.reload();
}

function adopt(next) {
  const changed = next.logged_in !== session.logged_in || next.reading_needs_login !== session.reading_needs_login;
  session = next;
  if (next.logged_in) declined = false;
  show(byId("login"), !next.logged_in);
  show(byId("logout"), next.logged_in);
  byId("logout").title = next.user ? `Logged in as ${visible(next.user)}` : "";
  if (changed) for (const listener of listeners) listener();
}

/// Wires the buttons of the header and the dialog.
export function start() {
  byId("login").addEventListener("click", login);
  byId("logout").addEventListener("click", logout);
  byId("login-form").addEventListener("submit", submit);
}
