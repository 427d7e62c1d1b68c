// Times that go on: how long ago, or how long it has been, kept current by one clock.
import { useEffect, useState } from "preact/hooks";
import { duration, moment, seconds } from "../format";
import type { Task } from "../model";

const ticking = new Set<() => void>();
setInterval(() => {
  for (const tick of [...ticking]) tick();
}, 1000);

function useClock(runs: boolean): void {
  const [, tick] = useState(0);
  useEffect(() => {
    if (!runs) return;
    const again = () => tick((n) => n + 1);
    ticking.add(again);
    return () => void ticking.delete(again);
  }, [runs]);
}

export function Moment({ at }: { at: string | null }) {
  if (at === null) return <span class="faint">–</span>;
  return <time dateTime={at} title={at}>{moment(at)}</time>;
}

/** From one moment to another, or to now. */
export function Elapsed({ from, to }: { from: string | null; to: string | null }) {
  useClock(from !== null && to === null);
  return from === null ? <span class="faint">–</span> : <span class="number">{duration(seconds(from, to))}</span>;
}

/** The run that goes on, or the one that decided: between two attempts nothing goes on. */
export function Took({ of: task }: { of: Task }) {
  if (task.status === "in_progress") return <Elapsed from={task.started_at} to={null} />;
  const took = task.result?.duration ?? null;
  return took === null ? <span class="faint">–</span> : <span class="number">{duration(took)}</span>;
}
