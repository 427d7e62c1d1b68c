// The session: the key, the connection and its return, and the journal's cursor.
//
// Rules: 1. The journal is subscribed to before anything is asked for, so that what changes after an answer is heard of.
// 2. A new connection goes on at the cursor; what the journal has forgotten since makes everything be asked for again.
// 3. The key is kept for the tab, or for this browser if the person says so; never in a cookie.
import type { LogPart, Method, Params, Result } from "./methods";
import type { Event, Role } from "./model";
import { Connection, ContactLost, Refused } from "./rpc";
import { current, update } from "./store";

const KEY = "polpod.key";
const REVOKED = 4403;
const NOT_ACCEPTED = "This key is not accepted.";
/** Milliseconds between attempts to come back, the last one again and again. */
const PAUSES = [100, 250, 500, 1000, 2000, 4000];
const HEARTBEAT = 15_000;

let connection: Connection | null = null;
let key: string | null = null;
let cursor: number | null = null;
let attempts = 0;
let retry: ReturnType<typeof setTimeout> | undefined;
let beat: ReturnType<typeof setInterval> | undefined;
const readers = new Set<(events: Event[]) => void>();
const logs = new Map<number, (part: LogPart) => void>();

export function call<M extends Method>(method: M, params: Params<M>): Promise<Result<M>> {
  return connection === null ? Promise.reject(new ContactLost()) : connection.call(method, params);
}

/** Be told of events as they come, each once and in order; returns what ends that. */
export function onEvents(reader: (events: Event[]) => void): () => void {
  readers.add(reader);
  return () => void readers.delete(reader);
}

/** Be told of what follows in a log, by the subscription of `task.logs`; returns what ends that. */
export function onLog(subscription: number, reader: (part: LogPart) => void): () => void {
  logs.set(subscription, reader);
  return () => {
    logs.delete(subscription);
    call("event.unsubscribe", { subscription }).catch(() => undefined); // over already, or the connection is
  };
}

/** Go on with the key that was kept, if one was. */
export function resume(): void {
  key = sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY);
  if (key !== null) connect();
}

export function signIn(given: string, remember: boolean): void {
  key = given;
  (remember ? localStorage : sessionStorage).setItem(KEY, given);
  connect();
}

export function signOut(problem: string | null = null): void {
  for (const storage of [sessionStorage, localStorage]) storage.removeItem(KEY);
  key = null;
  cursor = null;
  clearTimeout(retry);
  retry = undefined;
  update({ session: { phase: "signed_out", problem }, resources: {} });
  connection?.close();
}

/** Do not wait for the next attempt: the network, or the person, is back. */
export function hasten(): void {
  if (retry === undefined || connection !== null) return;
  clearTimeout(retry);
  connect();
}

function connect(): void {
  clearTimeout(retry);
  retry = undefined;
  if (current().session.phase === "signed_out") update({ session: { phase: "connecting", problem: null } });
  void admitted(key ?? "");
}

/** Ask whose key it is, which a browser's WebSocket could not tell, and connect with it. */
async function admitted(shown: string): Promise<void> {
  if (!/^[\w.~+/=-]+$/.test(shown)) return signOut(NOT_ACCEPTED);
  const asked = await fetch("session", { headers: { Authorization: `Bearer ${shown}` } }).catch(() => null);
  if (shown !== key) return; // it was signed out meanwhile
  if (asked?.status === 401) return signOut(NOT_ACCEPTED);
  if (asked?.status === 429) return signOut("Too many wrong keys: wait a minute.");
  if (!asked?.ok) return later();
  const who = (await asked.json()) as { user: string; role: Role };
  const url = new URL("rpc", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const opened = new Connection(url.href, ["polpod", `polpod.key.${shown}`], {
    open: () => void open(opened, who),
    notified,
    closed: (code) => closed(opened, code),
  });
  connection = opened;
}

async function open(opened: Connection, who: { user: string; role: Role }): Promise<void> {
  try {
    await subscribe(opened);
    attempts = 0;
    beat = setInterval(() => void heartbeat(opened), HEARTBEAT);
    update({ session: { phase: "open", ...who }, generation: current().generation + 1 });
  } catch {
    opened.close(); // and come again
  }
}

async function subscribe(opened: Connection): Promise<void> {
  try {
    const { next } = await opened.call("event.subscribe", { after: cursor });
    cursor ??= next;
  } catch (problem) {
    if (cursor === null || !(problem instanceof Refused && problem.word === "conflict")) throw problem;
    cursor = null; // it is of another journal: this one is begun now, and everything asked for anew
    await subscribe(opened);
  }
}

/** A connection may be dead without saying so; then it is given up. */
async function heartbeat(opened: Connection): Promise<void> {
  const late = setTimeout(() => opened.close(), HEARTBEAT - 1000);
  await opened.call("daemon.health", {}).catch(() => undefined);
  clearTimeout(late);
}

function closed(which: Connection, code: number): void {
  if (which !== connection) return;
  connection = null;
  clearInterval(beat);
  logs.clear();
  if (key === null) return;
  if (code === REVOKED) return signOut("This key has expired or was revoked.");
  later();
}

/** Try again after a pause, longer each time. */
function later(): void {
  const { session } = current();
  if (session.phase === "connecting") update({ session: { ...session, problem: "polpod does not answer: trying again." } });
  if (session.phase === "open") update({ session: { ...session, phase: "lost", since: Date.now() } });
  const pause = PAUSES[Math.min(attempts++, PAUSES.length - 1)] ?? 0;
  retry = setTimeout(connect, pause);
}

function notified(method: string, params: unknown): void {
  if (method === "event.next") {
    const page = params as { events: Event[]; next: number; behind: number; missed: number; error?: unknown };
    if (page.error !== undefined) return connection?.close(); // and subscribe again
    cursor = page.next;
    if (page.behind !== current().behind) update({ behind: page.behind });
    if (page.missed > 0) update({ generation: current().generation + 1 });
    if (page.events.length > 0) for (const reader of [...readers]) reader(page.events);
  } else if (method === "task.logged") {
    const part = params as LogPart & { subscription: number; error?: { message: string } };
    if (part.error !== undefined) return connection?.close();
    logs.get(part.subscription)?.(part);
  }
}
