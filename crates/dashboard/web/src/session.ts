// Who this browser is to the gateway: what it may see and change.

import { signal } from "@preact/signals";
import { ask, Refused } from "./api";

export interface Session {
  loggedIn: boolean;
  passwordSet: boolean;
  look: boolean;
  write: boolean;
}

/** Null until the gateway has told. */
export const session = signal<Session | null>(null);

/** Whether the dialog for logging in is open. */
export const asking = signal(false);

/** Asks who we are. Silent when nobody answers: the banner tells of that. */
export async function refresh(): Promise<void> {
  try {
    session.value = await ask<Session>("GET", "session");
  } catch (failure) {
    // A proxy before the gateway may have ideas of its own; then the page only shows.
    if (failure instanceof Refused && failure.status === 404) session.value = null;
  }
}

export async function logIn(password: string): Promise<void> {
  session.value = await ask<Session>("POST", "login", { password });
}

export async function setUp(token: string, password: string): Promise<void> {
  session.value = await ask<Session>("POST", "setup", { token, password });
}

export async function logOut(): Promise<void> {
  session.value = await ask<Session>("POST", "logout");
}

export async function changePassword(current: string, password: string): Promise<void> {
  await ask("POST", "password", { current, password });
}

export type Scope = "read" | "write";

export interface Token {
  name: string;
  scope: Scope;
  created: string;
}

export async function listTokens(): Promise<Token[]> {
  return (await ask<{ tokens: Token[] }>("GET", "tokens")).tokens;
}

/** Gives the secret, which nobody can read again. */
export async function createToken(name: string, scope: Scope): Promise<string> {
  return (await ask<{ token: string }>("POST", "tokens", { name, scope })).token;
}

export async function revokeToken(name: string): Promise<void> {
  await ask("DELETE", `tokens/${encodeURIComponent(name)}`);
}

/** Does what needs a login. When the session has ended meanwhile, the page knows it from then on. */
export async function privileged<T>(what: Promise<T>): Promise<T> {
  try {
    return await what;
  } catch (failure) {
    if (failure instanceof Refused && failure.status === 401) void refresh();
    throw failure;
  }
}
