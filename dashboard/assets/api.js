// Requests to the dashboard, same origin, JSON. What needs a login is in session.js.

// As long as the services may take for what a person asks of them.
const TIMEOUT_MS = 60000;

/// A request that was not answered with success; `status` 0: not answered at all.
export class Failure extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/// GET; `query` without its null values. Throws Failure.
export function get(path, query = {}, { timeoutMs = TIMEOUT_MS } = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== "");
  const search = new URLSearchParams(given).toString();
  return request("GET", search ? `${path}?${search}` : path, {}, timeoutMs);
}

/// POST of a JSON body (or none) with the session's CSRF token (or none). Throws Failure.
export function post(path, { body = null, csrf = null } = {}) {
  const headers = {};
  if (body !== null) headers["Content-Type"] = "application/json";
  if (csrf !== null) headers["X-Millrace-CSRF"] = csrf;
  return request("POST", path, { headers, body: body === null ? undefined : JSON.stringify(body) });
}

async function request(method, path, init = {}, timeoutMs = TIMEOUT_MS) {
  const response = await answered(path, { method, credentials: "same-origin", cache: "no-store", ...init }, timeoutMs);
  const text = await response.text();
  if (!response.ok) throw new Failure(response.status, reason(text) ?? `HTTP ${response.status}`);
  return parsed(text, response);
}

async function answered(path, init, timeoutMs) {
  try {
    return await fetch(path, { ...init, signal: AbortSignal.timeout(timeoutMs) });
  } catch (error) {
    const late = error.name === "TimeoutError";
    throw new Failure(0, late ? `no answer within ${timeoutMs / 1000} s` : "the dashboard cannot be reached");
  }
}

function parsed(text, response) {
  if (text === "") return null;
  try {
    return JSON.parse(text);
  } catch {
    throw new Failure(response.status, "the answer is not JSON");
  }
}

function reason(text) {
  try {
    return JSON.parse(text).error ?? null;
  } catch {
    return null;
  }
}
