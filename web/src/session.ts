// The session: the key, the connection and its return, and the journal's cursor.
//
// Rules: 1. The journal is subscribed to before anything is asked for, so that what changes after an answer is heard of.
// 2. A new connection goes on at the cursor; what the journal has forgotten since makes everything be asked for again, and
// another journal makes everything be forgotten.
// 3. The key is kept for the tab, or for this browser if the person says so; never in a cookie.
// 4. There is one attempt or one connection at a time: what another one still says is not heard.
import type { LogPart, Method, Params, Result } from "./methods";
import type { Event, Role } from "./model";
import { Connection, ContactLost, Refused } from "./rpc";
import { current, update } from "./store";

const KEY = "polpod.key";
/** Why a connection closed: its key is worth nothing any more, or nobody said why. */
const REVOKED = 4403;
const UNSAID = 1006;
const NOT_ACCEPTED = "This key is not accepted.";
/** Milliseconds between attempts to come back, the last one again and again. */
const PAUSES = [100, 250, 500, 1000, 2000, 4000];
const HEARTBEAT = 15_000;
/** Milliseconds within which an attempt has to come to something: who takes it and says nothing is as good as away. */
const WITHIN = 15_000;

let connection: Connection | null = null;
let attempt = 0;
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
  const on = connection;
  logs.set(subscription, reader);
  return () => {
    if (on !== connection || logs.get(subscription) !== reader) return; // the number is another's by now
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
  drop();
  update({ session: { phase: "signed_out", problem }, resources: {} });
}

/** Do not wait for the next attempt: the network, or the person, is back. */
export function hasten(): void {
  if (retry === undefined || connection !== null) return;
  clearTimeout(retry);
  connect();
}

function connect(): void {
  drop();
  if (current().session.phase === "signed_out") update({ session: { phase: "connecting", problem: null } });
  void admitted(key ?? "", attempt);
}

/** Be done with the connection, or the attempt, that there is (rule 4). */
function drop(): void {
  attempt++;
  clearTimeout(retry);
  retry = undefined;
  clearInterval(beat);
  logs.clear();
  const dropped = connection;
  connection = null;
  dropped?.close();
}

/** Ask whose key it is, which a browser's WebSocket could not tell, and connect with it. */
async function admitted(shown: string, mine: number): Promise<void> {
  if (!/^[\w.~+/=-]+$/.test(shown)) return signOut(NOT_ACCEPTED);
  const headers = { Authorization: `Bearer ${shown}` };
  const asked = await fetch("session", { headers, signal: AbortSignal.timeout(WITHIN) }).catch(() => null);
  const who = (asked?.ok ? await asked.json().catch(() => null) : null) as { user: string; role: Role } | null;
  if (mine !== attempt) return; // it was signed out meanwhile, or is tried anew
  if (asked?.status === 401) return signOut(NOT_ACCEPTED);
  if (asked?.status === 429) return signOut("Too many wrong keys: wait a minute.");
  if (who === null) return later();
  const url = new URL("rpc", document.baseURI);
  url.protocol = url.protocol.replace("http", "ws");
  const opened = new Connection(url.href, ["polpod", `polpod.key.${shown}`], {
    open: () => void open(opened, who).finally(() => clearTimeout(late)),
    notified: (method, params) => void (opened === connection && notified(method, params)),
    closed: (code) => (clearTimeout(late), closed(opened, code)),
  });
  const late = setTimeout(() => closed(opened, UNSAID), WITHIN);
  connection = opened;
}

async function open(opened: Connection, who: { user: string; role: Role }): Promise<void> {
  try {
    await subscribe(opened);
    if (opened !== connection) return;
    attempts = 0;
    beat = setInterval(() => void heartbeat(opened), HEARTBEAT);
    update({ session: { phase: "open", ...who }, generation: current().generation + 1 });
  } catch {
    closed(opened, UNSAID); // and come again
  }
}

async function subscribe(opened: Connection): Promise<void> {
  try {
    const { next } = await opened.call("event.subscribe", { after: cursor });
    cursor ??= next;
  } catch (problem) {
    if (cursor === null || !(problem instanceof Refused && problem.word === "conflict")) throw problem;
    cursor = null; // it is of another journal: this one is begun now, and nothing that is shown is of it
    update({ journal: current().journal + 1, resources: {} });
    await subscribe(opened);
  }
}

/** A connection may be dead without saying so; then it is given up. */
async function heartbeat(opened: Connection): Promise<void> {
  const late = setTimeout(() => closed(opened, UNSAID), HEARTBEAT - 1000);
  await opened.call("daemon.health", {}).catch(() => undefined);
  clearTimeout(late);
}

function closed(which: Connection, code: number): void {
  if (which !== connection) return;
  drop();
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
    const reader = logs.get(part.subscription);
    if (part.end) logs.delete(part.subscription);
    reader?.(part);
  }
}
