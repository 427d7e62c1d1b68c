// All runs, the newest first.
import { useState } from "preact/hooks";
import { bytes, duration, whole, words } from "../format";
import type { Source } from "../listing";
import { about, useLive } from "../live";
import { RUN_STATUSES, type Event, type Run, type RunStatus } from "../model";
import { Chips, Search } from "../parts/filters";
import { useListing } from "../parts/listed";
import { Status } from "../parts/status";
import { Table, type Column } from "../parts/table";
import { Elapsed, Moment } from "../parts/time";
import { go, path } from "../router";
import { Refused } from "../rpc";
import { call } from "../session";

interface Filter {
  status: RunStatus[];
  text: string;
}

const COLUMNS: readonly Column<Run>[] = [
  { name: "id", title: "Run", cell: (run) => <span class="number">{run.id}</span> },
  { name: "state", title: "Status", cell: (run) => <Status of={run.status} /> },
  { name: "title", title: "Task", cell: (run) => <a href={path("tasks", run.task_id)} tabIndex={-1}>{run.task_id}</a> },
  { name: "labels", title: "Ended by", cell: outcome },
  { name: "queue", title: "Queue", cell: (run) => run.queue },
  { name: "took", title: "Took", cell: (run) => <Elapsed from={run.started_at} to={run.ended_at} /> },
  { name: "cpu", title: "CPU", cell: (run) => run.cpu_seconds === null ? "" : <span class="number">{duration(run.cpu_seconds)}</span> },
  { name: "memory", title: "Memory", cell: (run) => run.max_rss === null ? "" : <span class="number">{bytes(run.max_rss)}</span> },
  { name: "at", title: "Started", cell: (run) => <Moment at={run.started_at} /> },
];

export function outcome(run: Run): string {
  if (run.reason === null) return "";
  const code = run.signal ? [`signal ${run.signal}`] : run.exit_code === null ? [] : [`exit code ${run.exit_code}`];
  return [words(run.reason), ...code].join(", ");
}

/** The run that an event of a task, or of the run itself, is about. */
function touched(event: Event): string | null {
  if (event.subject.startsWith("run/")) return event.subject.slice("run/".length);
  const run = event.body["run_id"];
  return typeof run === "number" ? String(run) : null;
}

/** The run, unless it is gone. */
async function one(id: number): Promise<Run[]> {
  try {
    return [(await call("run.get", { id })).run];
  } catch (problem) {
    if (problem instanceof Refused) return [];
    throw problem;
  }
}

const SOURCE: Source<Run, Filter> = {
  async page({ status }, before, limit) {
    const page = await call("run.list", { ...(status.length > 0 && { status }), before, limit });
    return { rows: page.runs, next: page.next };
  },
  async some(keys) {
    // Each is asked for by itself; most are near each other and come in one page.
    const numbers = keys.map(Number);
    const newest = Math.max(...numbers);
    const wanted = new Set(numbers);
    const page = await call("run.list", { before: newest + 1, limit: Math.min(1000, newest - Math.min(...numbers) + 1) });
    const found = page.runs.filter((run) => wanted.delete(run.id));
    const last = page.runs.at(-1)?.id ?? 0;
    const older = [...wanted].filter((id) => id < last).map((id) => one(id));
    return [...found, ...(await Promise.all(older)).flat()];
  },
  key: (run) => String(run.id),
  place: (run) => run.id,
  fits: (run, { status, text }) =>
    (status.length === 0 || status.includes(run.status)) &&
    (text === "" || [run.task_id, run.queue, run.agent, outcome(run)].some((field) => field?.includes(text))),
  whole: ({ status, text }) => status.length === 0 && text === "",
  scans: ({ text }) => (text !== "" ? 1000 : null),
  touched,
  drifts: () => false,
  removed: () => false,
};

export function RunsPage() {
  const [status, setStatus] = useState<RunStatus[]>([]);
  const [text, setText] = useState("");
  const { listing, listed, problem } = useListing("runs", SOURCE, { status, text });
  const daemon = useLive("status", () => call("daemon.status", {}), about("task", "run")).value;
  return (
    <section class="page listing" aria-labelledby="heading">
      <header>
        <h1 id="heading">Runs</h1>
        <Chips label="Status" all={RUN_STATUSES} counts={daemon?.runs ?? {}} chosen={status} choose={setStatus} />
        <div class="tools">
          <Search label="Search task, queue, agent, outcome" value={text} change={setText} />
        </div>
      </header>
      {problem && <p class="problem" role="alert">{problem}</p>}
      <Table
        label="Runs"
        columns={COLUMNS}
        listed={listed}
        id={SOURCE.key}
        open={(run) => go("tasks", run.task_id, String(run.id))}
        look={(from, to) => listing.look(from, to)}
        empty="No runs yet."
      />
      <p class="foot">
        {whole(listed.rows.length)} shown{listed.reading ? " – reading…" : listed.more ? " – scroll for older ones" : ""}
      </p>
    </section>
  );
}
