// One request of the API, and what its refusal says.

/** A status that isn't 2xx, in the gateway's words. */
export class Refused extends Error {
  constructor(message: string, readonly status: number, /** Seconds until it may be tried again. */ readonly wait: number) {
    super(message);
  }
}

/** A path of the gateway, wherever a proxy has put the page. */
export function address(path: string): URL {
  return new URL(path, location.href.split("#")[0]);
}

/** A password takes a small board about a second; the network may be slow as well. */
const DEADLINE = 15_000;

export async function ask<T>(method: string, path: string, body?: unknown): Promise<T> {
  const json = body === undefined ? {} : { headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) };
  const response = await fetch(address(`api/v1/${path}`), { method, cache: "no-store", signal: AbortSignal.timeout(DEADLINE), ...json });
  if (!response.ok) throw await refused(response);
  return (await response.json()) as T;
}

export async function refused(response: Response): Promise<Refused> {
  const body: unknown = await response.json().catch(() => null);
  const error = body && typeof body === "object" && "error" in body ? body.error : null;
  const said = typeof error === "string" ? error : `HTTP ${response.status}`;
  return new Refused(said, response.status, Number(response.headers.get("Retry-After")) || 0);
}

/** Any failure in words. */
export function words(failure: unknown): string {
  return failure instanceof Error ? failure.message : String(failure);
}
