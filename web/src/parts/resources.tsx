// What runs took: curves over the attempts at a task.
import { bytes, duration } from "../format";
import type { Run } from "../model";
import { Curve } from "./curve";

const MOST = 60;

export function Resources({ runs, shown }: { runs: Run[]; shown: Run }) {
  const recent = runs.slice(-MOST);
  const over = (title: string, value: (run: Run) => number | null, format: (n: number) => string) => (
    <Curve
      title={title}
      points={recent.flatMap((run) => { const y = value(run); return y === null ? [] : [{ x: run.id, y, label: `run ${run.id}` }]; })}
      format={format}
      marked={shown.id}
    />
  );
  return (
    <div class="curves">
      {over("Time by run", (run) => run.duration, duration)}
      {over("CPU time by run", (run) => run.cpu_seconds, duration)}
      {over("Most memory by run", (run) => run.max_rss, bytes)}
    </div>
  );
}
