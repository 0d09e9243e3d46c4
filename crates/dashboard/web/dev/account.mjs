// The mock's accounts, with the shapes of crates/dashboard/src/account.rs. The
// password is `watermill`; the link is /#/setup?token=once.

import { randomBytes } from "node:crypto";

const sessions = new Set();
const tokens = [];
let password = "watermill";
let link = "once";
let wrong = 0;
let until = 0;

const told = (request) => /tidemill_session=([\w-]+)/.exec(request.headers.cookie ?? "")?.[1];
const state = (session, view) => ({ loggedIn: session, passwordSet: password !== null, look: session || view !== "nobody", write: session });
const cookie = (value) => ({ "set-cookie": `tidemill_session=${value}; Path=/; HttpOnly; SameSite=Strict${value ? "" : "; Max-Age=0"}` });

export const loggedIn = (request) => sessions.has(told(request));

export function order(key, value) {
  if (key === "password") password = value || null;
  if (key === "link") link = value;
}

function begin(view) {
  const id = randomBytes(16).toString("hex");
  sessions.add(id);
  return [200, state(true, view), cookie(id)];
}

/** Three attempts, then a pause, as the gateway has it. */
function slowed() {
  const seconds = Math.ceil((until - Date.now()) / 1000);
  return seconds > 0 ? [429, { error: `too many wrong attempts: try again in ${seconds} s` }, { "retry-after": String(seconds) }] : null;
}

function failed(error) {
  wrong += 1;
  if (wrong >= 3) until = Date.now() + 2 ** (wrong - 2) * 1000;
  return [401, { error }];
}

/** An answer of the account's routes: status, JSON, headers; null when it is none of them. */
export function account(request, path, body, view) {
  const mine = loggedIn(request);
  const only = () => (mine ? null : [401, { error: "this needs a login" }]);
  switch (`${request.method} ${path}`) {
    case "GET /api/v1/session":
      return [200, state(mine, view)];
    case "POST /api/v1/login":
      if (password === null) return [409, { error: "no password is set yet: tidemill passwd sets it" }];
      if (slowed()) return slowed();
      if (body.password !== password) return failed("the password is wrong");
      wrong = 0;
      return begin(view);
    case "POST /api/v1/setup":
      if (slowed()) return slowed();
      if (body.token !== link) return failed("this link has been used, or is older than an hour: tidemill passwd --link shows a new one");
      if (body.password.length < 8) return [400, { error: "a password has at least 8 characters and at most 256 bytes" }];
      [password, link] = [body.password, null];
      return begin(view);
    case "POST /api/v1/logout":
      sessions.delete(told(request));
      return [200, state(false, view), cookie("")];
    case "POST /api/v1/password":
      if (only()) return only();
      if (body.current !== password) return failed("the password is wrong");
      password = body.password;
      return [200, { ok: true }];
    case "GET /api/v1/tokens":
      return only() ?? [200, { tokens: tokens.map(({ name, scope, created }) => ({ name, scope, created })) }];
    case "POST /api/v1/tokens":
      if (only()) return only();
      if (!/^[a-z0-9][a-z0-9_-]{0,63}$/.test(body.name)) return [400, { error: `"${body.name}" is not a name: use a-z, 0-9, _ and -` }];
      if (tokens.some((token) => token.name === body.name)) return [409, { error: `there is a token ${body.name} already: revoke it first` }];
      tokens.push({ name: body.name, scope: body.scope ?? "read", created: new Date().toISOString() });
      return [201, { name: body.name, scope: body.scope, token: `tidemill_${randomBytes(32).toString("base64url")}` }];
  }
  const revoked = /^DELETE \/api\/v1\/tokens\/(.+)$/.exec(`${request.method} ${path}`);
  if (!revoked) return null;
  if (only()) return only();
  const at = tokens.findIndex((token) => token.name === revoked[1]);
  if (at < 0) return [404, { error: `there is no token "${revoked[1]}"` }];
  tokens.splice(at, 1);
  return [200, { ok: true }];
}
