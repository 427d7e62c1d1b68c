// What pages show of the daemon, kept in the store and asked for again when the journal says that it may have changed.
import { useEffect } from "preact/hooks";
import type { Event } from "./model";
import { ContactLost, Refused } from "./rpc";
import { onEvents } from "./session";
import { current, forget, put, useStore, type Resource } from "./store";

/** Milliseconds within which changes are answered by one more question, or so many times what the last answer took. */
const SETTLE = 300;
const REST = 4;
const NOTHING: Resource = { value: undefined, problem: null };

/**
 * The value under `key`: asked for by `load` now, on each new connection, after events that `touches` it, and `every` so many
 * seconds.  Undefined until there is one, and once it is gone.  One component at a time shows a key.
 */
export function useLive<T>(
  key: string,
  load: () => Promise<T>,
  touches: (event: Event) => boolean,
  every?: number,
): { value: T | undefined; problem: string | null } {
  const resource = useStore((state) => state.resources[key] ?? NOTHING);
  const generation = useStore((state) => state.generation);
  useEffect(() => {
    let ended = false;
    let due: ReturnType<typeof setTimeout> | undefined;
    let asking = false;
    let again = false;
    let pause = SETTLE;
    const ask = async () => {
      due = undefined;
      if (asking) {
        again = true;
        return;
      }
      asking = true;
      const began = performance.now();
      try {
        const value = await load();
        if (!ended) put(key, { value, problem: null });
      } catch (problem) {
        // Where contact was lost, the next connection asks again, and what was known stays.
        if (!ended && !(problem instanceof ContactLost)) {
          const gone = problem instanceof Refused && problem.word === "not_found";
          put(key, { value: gone ? undefined : current().resources[key]?.value, problem: (problem as Error).message });
        }
      }
      asking = false;
      pause = Math.max(SETTLE, REST * (performance.now() - began));
      if (again && !ended) later();
      again = false;
    };
    const later = () => (due ??= setTimeout(() => void ask(), pause));
    const stop = onEvents((events) => void (events.some(touches) && later()));
    const timer = every === undefined ? undefined : setInterval(later, every * 1000);
    void ask();
    return () => {
      ended = true;
      stop();
      clearTimeout(due);
      clearInterval(timer);
    };
  }, [key, generation]);
  useEffect(() => () => forget(key), [key]);
  return resource as { value: T | undefined; problem: string | null };
}

/** Whether what waits for a person may be something else after an event. */
export function decides(event: Event): boolean {
  return /^(approval:|task:(question|answered|removed)$|mission:deleted$)/.test(event.kind);
}

/** Whether an event is about a noun, or one thing of it. */
export function about(...subjects: string[]): (event: Event) => boolean {
  return (event) => subjects.some((subject) => event.subject === subject || event.subject.startsWith(`${subject}/`));
}
