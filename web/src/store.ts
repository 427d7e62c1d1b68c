// The one store: what is known, and nothing that can be computed from it.  Data flows one way: a call or an event changes
// the store (`update`), the store changes what is shown (`useStore`), and what a person does there makes a call.
import { useLayoutEffect, useState } from "preact/hooks";
import type { Role } from "./model";

export type Session =
  | { phase: "signed_out"; problem: string | null }
  | { phase: "connecting"; problem: string | null }
  | { phase: "open"; user: string; role: Role }
  | { phase: "lost"; user: string; role: Role; since: number };

/** What was asked for last under a key; `value` stays while it is asked for again. */
export interface Resource {
  value: unknown;
  problem: string | null;
}

export interface Notice {
  id: number;
  text: string;
  bad: boolean;
}

export interface State {
  session: Session;
  /** Counts the connections: what is shown is asked for again on each. */
  generation: number;
  /** Counts the journals that were followed: nothing of one is shown with another. */
  journal: number;
  /** Events that happened and were not told yet. */
  behind: number;
  path: string[];
  resources: Record<string, Resource>;
  notices: Notice[];
  theme: "auto" | "light" | "dark";
}

let state: State = {
  session: { phase: "signed_out", problem: null },
  generation: 0,
  journal: 0,
  behind: 0,
  path: [],
  resources: {},
  notices: [],
  theme: "auto",
};
const listeners = new Set<() => void>();

export function current(): State {
  return state;
}

export function update(changes: Partial<State>): void {
  state = { ...state, ...changes };
  for (const listener of [...listeners]) listener();
}

export function put(key: string, resource: Resource): void {
  update({ resources: { ...state.resources, [key]: resource } });
}

export function forget(key: string): void {
  const { [key]: _, ...resources } = state.resources;
  update({ resources });
}

/** What `select` makes of the store, and again whenever that changes; it has to return what is in the store, not copies. */
export function useStore<T>(select: (state: State) => T): T {
  const [, again] = useState(0);
  const shown = select(state);
  useLayoutEffect(() => {
    let last = shown;
    const look = () => {
      const now = select(state);
      if (!Object.is(now, last)) {
        last = now;
        again((n) => n + 1);
      }
    };
    listeners.add(look);
    look();
    return () => void listeners.delete(look);
  });
  return shown;
}
