// Buttons that act on something: off while there is no contact, and not there for who may only look.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useStore } from "../store";

/** Whether the person may change things. */
export function useMayAct(): boolean {
  return useStore(({ session }) => (session.phase === "open" || session.phase === "lost") && session.role !== "observer");
}

export function Act(props: { run(): Promise<unknown>; kind?: "bad" | "good"; confirm?: string; children: ComponentChildren; disabled?: boolean }) {
  const may = useMayAct();
  const contact = useStore((state) => state.session.phase === "open");
  const [busy, setBusy] = useState(false);
  const [asks, setAsks] = useState(false);
  if (!may) return null;
  const click = (event: MouseEvent) => {
    if (busy || (asks && event.detail > 1)) return; // the second half of a double click confirms nothing
    if (props.confirm !== undefined && !asks) {
      setAsks(true);
      setTimeout(() => setAsks(false), 4000);
      return;
    }
    setAsks(false);
    setBusy(true);
    void props.run().finally(() => setBusy(false));
  };
  return (
    <button type="button" class={props.kind} disabled={!contact || props.disabled} aria-disabled={busy} onClick={click}>
      {asks ? props.confirm : props.children}
    </button>
  );
}
