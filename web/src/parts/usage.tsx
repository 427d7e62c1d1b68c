// What a run uses now: its processes as a tree, and curves of what was seen since the page was opened.
import { bytes, duration } from "../format";
import { useLive } from "../live";
import type { Processes, RunProcess } from "../model";
import { call } from "../session";
import { current } from "../store";
import { Curve, type Point } from "./curve";

const EVERY = 2;
const MOST = 300;

interface Sample {
  at: number;
  cpu: number;
  memory: number;
}
interface Seen {
  now: Processes;
  samples: Sample[];
}

export function Usage({ run }: { run: number }) {
  const key = `usage/${run}`;
  const look = async (): Promise<Seen> => {
    const now = await call("run.processes", { id: run });
    const before = (current().resources[key]?.value as Seen | undefined)?.samples ?? [];
    const cpu = now.cpu_seconds ?? now.processes.reduce((sum, process) => sum + process.cpu_seconds, 0);
    const sample = { at: Date.parse(now.at) / 1000, cpu, memory: now.memory };
    return { now, samples: [...before, sample].slice(-MOST) };
  };
  const { value, problem } = useLive(key, look, () => false, EVERY);
  if (value === undefined) return problem === null ? null : <p class="problem">{problem}</p>;
  const { now, samples } = value;
  return (
    <>
      <div class="curves">
        <Curve title="CPU" points={rates(samples)} format={(cores) => `${Math.round(cores * 100)} %`} />
        <Curve title="Memory" points={samples.map(({ at, memory }) => ({ x: at, y: memory, label: "" }))} format={bytes} />
      </div>
      {now.processes.length > 0 && (
        <div class="card scroll" tabIndex={0} role="region" aria-label="Processes">
          <Tree of={now.processes} below={null} />
          {now.more && <p class="faint">and others</p>}
        </div>
      )}
    </>
  );
}

/** CPUs in use between one sample and the next. */
function rates(samples: Sample[]): Point[] {
  return samples.flatMap(({ at, cpu }, index) => {
    const before = samples[index - 1];
    return before === undefined ? [] : [{ x: at, y: Math.max(0, (cpu - before.cpu) / (at - before.at)), label: "" }];
  });
}

/** The processes below one, or those whose parent is not of the job. */
function Tree({ of: processes, below }: { of: RunProcess[]; below: number | null }) {
  const known = new Set(processes.map((process) => process.pid));
  const here = processes.filter(({ parent }) => (below === null ? !known.has(parent) : parent === below));
  if (here.length === 0) return null;
  return (
    <ul class="tree">
      {here.map((process) => (
        <li key={process.pid}>
          <span class="number">{process.pid}</span>{" "}
          <span class="faint">
            {bytes(process.memory)} · {duration(process.cpu_seconds)} CPU{process.threads > 1 && ` · ${process.threads} threads`}
          </span>{" "}
          <code>{process.command}</code>
          <Tree of={processes} below={process.pid} />
        </li>
      ))}
    </ul>
  );
}
