// Buttons that act on something: off while they do, and for who may only look.
import type { ComponentChildren } from "preact";
import { useState } from "preact/hooks";
import { useStore } from "../store";

/** Whether the person may change things: an observer may not, and nobody while there is no contact. */
export function useMayAct(): boolean {
  return useStore((state) => state.session.phase === "open" && state.session.role !== "observer");
}

export function Act(props: { run(): Promise<unknown>; kind?: "bad" | "good"; confirm?: string; children: ComponentChildren; disabled?: boolean }) {
  const may = useMayAct();
  const [busy, setBusy] = useState(false);
  const [asks, setAsks] = useState(false);
  const click = () => {
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
    <button type="button" class={props.kind} disabled={!may || busy || props.disabled} onClick={click}>
      {asks ? props.confirm : props.children}
    </button>
  );
}
