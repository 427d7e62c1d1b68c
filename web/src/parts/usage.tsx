// What a run uses: curves of what its runner kept and of what is seen here since, and its processes as a tree.
import { bytes, duration } from "../format";
import { useLive } from "../live";
import type { Processes, Run, RunProcess } from "../model";
import { call } from "../session";
import { current } from "../store";
import { Curve, type Point } from "./curve";

const EVERY = 2;
/** Samples; of more, every other one goes. */
const MOST = 1000;

interface Sample {
  at: number;
  cpu: number;
  memory: number;
}
interface Seen {
  processes: Processes | null;
  samples: Sample[];
}

export function Usage({ run, live }: { run: Run; live: boolean }) {
  const key = `usage/${run.id}/${live}`;
  const look = async (): Promise<Seen> => {
    const before = (current().resources[key]?.value as Seen | undefined)?.samples ?? (await kept(run));
    const now = live ? await call("run.processes", { id: run.id }) : null;
    if (now === null || now.processes.length === 0) return { processes: now, samples: before };
    const cpu = now.cpu_seconds ?? now.processes.reduce((sum, process) => sum + process.cpu_seconds, 0);
    const sample = { at: Date.parse(now.at) / 1000, cpu, memory: now.memory };
    return { processes: now, samples: [...before, sample].filter((_, index) => before.length < MOST || index % 2 === 1) };
  };
  const { value, problem } = useLive(key, look, () => false, live ? EVERY : undefined);
  if (value === undefined) return problem === null ? null : <p class="problem">{problem}</p>;
  const { processes: now, samples } = value;
  return (
    <>
      <div class="curves">
        <Curve title="CPU" points={rates(samples)} format={(cores) => `${Math.round(cores * 100)} %`} />
        <Curve title="Memory" points={samples.map(({ at, memory }) => ({ x: at, y: memory, label: "" }))} format={bytes} />
      </div>
      {now !== null && now.processes.length > 0 && (
        <div class="card scroll" tabIndex={0} role="region" aria-label="Processes">
          <Tree of={now.processes} below={null} />
          {now.more && <p class="faint">and others</p>}
        </div>
      )}
    </>
  );
}

async function kept(run: Run): Promise<Sample[]> {
  const { samples } = await call("run.usage", { id: run.id });
  const began = run.started_at === null ? 0 : Date.parse(run.started_at) / 1000;
  return samples.map(({ seconds, cpu_seconds: cpu, memory }) => ({ at: began + seconds, cpu, memory }));
}

/** CPUs in use between one sample and the next. */
function rates(samples: Sample[]): Point[] {
  return samples.flatMap(({ at, cpu }, index) => {
    const before = samples[index - 1];
    return before === undefined || at <= before.at ? [] : [{ x: at, y: Math.max(0, (cpu - before.cpu) / (at - before.at)), label: "" }];
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
