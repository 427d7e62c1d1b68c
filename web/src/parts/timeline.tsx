// What the journal has about one subject, the newest first, going on as it happens.
import { useEffect, useRef, useState } from "preact/hooks";
import { Moment } from "./time";
import { words } from "../format";
import type { Event } from "../model";
import { ContactLost } from "../rpc";
import { call, onEvents } from "../session";
import { current, forget, put, useStore, type Resource } from "../store";

const PAGE = 1000;
const SHOWN = 50;
const NONE: Resource = { value: [], problem: null };

export function Timeline({ subject }: { subject: string }) {
  const key = `journal/${subject}`;
  const resource = useStore((state) => state.resources[key] ?? NONE);
  const generation = useStore((state) => state.generation);
  const [all, setAll] = useState(false);
  useEffect(() => onEvents((events) => add(key, events.filter((event) => event.subject === subject))), [key]);
  const reached = useRef(0); // not what is known: that may be an event that came before the ones before it were read
  useEffect(() => {
    let ended = false;
    const read = async () => {
      for (;;) {
        const { events } = await call("event.list", { after: reached.current, subject, limit: PAGE });
        const last = events.at(-1);
        if (ended || last === undefined) return;
        add(key, events);
        reached.current = last.seq;
      }
    };
    read().catch((problem: Error) => {
      if (!ended && !(problem instanceof ContactLost)) put(key, { value: known(key), problem: problem.message });
    });
    return () => void (ended = true);
  }, [key, generation]);
  useEffect(() => () => forget(key), [key]);
  const events = (resource.value as Event[]).filter(said);
  const shown = all ? events : events.slice(0, SHOWN);
  return (
    <>
      {resource.problem && <p class="problem" role="alert">{resource.problem}</p>}
      <ol class="timeline" aria-label="Timeline">
        {shown.map((event) => (
          <li key={event.seq} data-seq={event.seq}>
            <Moment at={event.at} /> <strong>{event.kind}</strong> <span class="faint">{told(event)}</span>
          </li>
        ))}
      </ol>
      {events.length > shown.length && <button type="button" onClick={() => setAll(true)}>All {events.length}</button>}
    </>
  );
}

/** Of words on progress in a row the newest is enough. */
function said(event: Event, index: number, events: Event[]): boolean {
  return event.kind !== "task:progress" || events[index - 1]?.kind !== "task:progress";
}

function known(key: string): Event[] {
  return (current().resources[key]?.value as Event[] | undefined) ?? [];
}

function add(key: string, events: Event[]): void {
  if (events.length === 0) return;
  const bySeq = new Map([...known(key), ...events].map((event) => [event.seq, event]));
  put(key, { value: [...bySeq.values()].sort((a, b) => b.seq - a.seq), problem: null });
}

/** The body in words: what it went from and to, then its fields that are short. */
function told({ body }: Event): string {
  const { from, to, ...rest } = body;
  const edge = typeof from === "string" && typeof to === "string" ? [`${words(from)} → ${words(to)}`] : [];
  const fields = Object.entries(rest).flatMap(([name, value]) => {
    if (value === null || value === undefined || value === false || value === "" || typeof value === "object") return [];
    return [`${words(name)} ${String(value).slice(0, 200)}`];
  });
  return [...edge, ...fields].join(" · ");
}
