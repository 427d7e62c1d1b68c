// All tasks, the newest first.
import { useState } from "preact/hooks";
import { whole } from "../format";
import { about, useLive } from "../live";
import type { Source } from "../listing";
import { TASK_STATUSES, type Task, type TaskStatus } from "../model";
import { Chips, Search } from "../parts/filters";
import { useListing } from "../parts/listed";
import { Progress } from "../parts/progress";
import { Status } from "../parts/status";
import { Table, type Column } from "../parts/table";
import { Moment, Took } from "../parts/time";
import { go, path } from "../router";
import { Refused } from "../rpc";
import { call } from "../session";

interface Filter {
  status: TaskStatus[];
  queue: string;
  text: string;
}

const COLUMNS: readonly Column<Task>[] = [
  { name: "id", title: "Task", cell: (task) => <a href={path("tasks", task.id)} tabIndex={-1}>{task.id}</a> },
  { name: "state", title: "State", cell: (task) => <Status of={task.state} /> },
  { name: "title", title: "Title", cell: (task) => <><span class="text">{task.title}</span><Progress of={task} /></> },
  { name: "labels", title: "Labels", cell: (task) => labels(task).map((label) => <span class="label" key={label}>{label}</span>) },
  { name: "queue", title: "Queue", cell: (task) => task.queue },
  { name: "took", title: "Took", cell: (task) => <Took of={task} /> },
  { name: "at", title: "Submitted", cell: (task) => <Moment at={task.created_at} /> },
];

function labels(task: Task): string[] {
  return Object.entries(task.labels).map(([name, value]) => (value === "" ? name : `${name}=${value}`));
}

/** As the daemon compares: `STRASSE` is `Straße`. */
function fold(text: string): string {
  return text.toUpperCase().toLowerCase();
}

/** What is typed: words, all of which have to be in the title or be the id, and labels, `name=value`. */
function split(text: string): { words: string[]; labels: Record<string, string> } {
  const parts = fold(text).split(/\s+/).filter(Boolean);
  const pairs = text.split(/\s+/).filter((part) => /^[^=]+=/.test(part)).map((part) => part.split(/=(.*)/s) as [string, string]);
  return { words: parts.filter((part) => !/^[^=]+=/.test(part)), labels: Object.fromEntries(pairs) };
}

function fits(task: Task, { status, queue, text }: Filter): boolean {
  const wanted = split(text);
  const title = fold(task.title);
  return (
    (status.length === 0 || status.includes(task.status)) &&
    (queue === "" || task.queue === queue) &&
    Object.entries(wanted.labels).every(([name, value]) => task.labels[name] === value) &&
    wanted.words.every((word) => task.id === word || title.includes(word))
  );
}

async function these(ids: string[]): Promise<Task[]> {
  try {
    return (await call("task.list", { all: true, select: { ids }, limit: 1000 })).tasks;
  } catch (problem) {
    if (problem instanceof Refused && problem.word === "not_found") return [];
    throw problem;
  }
}

const SOURCE: Source<Task, Filter> = {
  async page({ status, queue, text }, before, limit) {
    const { words, labels: wanted } = split(text);
    const select = {
      ...(status.length > 0 && { status }),
      ...(queue !== "" && { queue }),
      ...(Object.keys(wanted).length > 0 && { labels: wanted }),
    };
    const page = await call("task.list", { all: true, select, before, limit, ...(words.length > 0 && { text: words.join(" ") }) });
    return { rows: page.tasks, next: page.next };
  },
  async some(keys) {
    // A range means those of it that are there; a client's own id is no number, and is asked for by itself.
    const numbers = keys.filter((key) => /^\d{1,18}$/.test(key)).map((key) => `${key}-${key}`);
    const names = keys.filter((key) => !/^\d{1,18}$/.test(key));
    const found = [...(numbers.length > 0 ? [these(numbers)] : []), ...names.map((name) => these([name]))];
    return (await Promise.all(found)).flat();
  },
  key: (task) => task.id,
  place: (task) => task.seq,
  fits,
  whole: ({ status, queue, text }) => status.length === 0 && queue === "" && text === "",
  scans: ({ text }) => (split(text).words.length > 0 ? 50 : null),
  touched: (event) => (event.subject.startsWith("task/") ? event.subject.slice("task/".length) : null),
  drifts: (task) => task.status === "pending",
  removed: (event) => event.kind === "task:removed",
};

export function TasksPage({ queue: given }: { queue?: string | undefined }) {
  const [status, setStatus] = useState<TaskStatus[]>([]);
  const [queue, setQueue] = useState(given ?? "");
  const [text, setText] = useState("");
  const { listing, listed, problem } = useListing("tasks", SOURCE, { status, queue, text });
  const daemon = useLive("status", () => call("daemon.status", {}), about("task")).value;
  const queues = useLive("queues", () => call("queue.list", {}), about("queue", "task")).value?.queues ?? [];
  const names = new Set([...queues.map(({ name }) => name), ...(queue === "" ? [] : [queue])]);
  const counts = daemon?.tasks ?? {};
  const total = Object.values(counts).reduce((sum, count) => sum + count, 0);
  return (
    <section class="page listing" aria-labelledby="heading">
      <header>
        <h1 id="heading">Tasks <small>{whole(total)}</small></h1>
        <Chips label="Status" all={TASK_STATUSES.filter((one) => counts[one] || status.includes(one))} counts={counts} chosen={status} choose={setStatus} />
        <div class="tools">
          <label>
            <span>Queue</span>
            <select value={queue} onChange={(event) => setQueue(event.currentTarget.value)}>
              <option value="">all</option>
              {[...names].map((name) => <option key={name} value={name}>{name}</option>)}
            </select>
          </label>
          <Search label="Search titles, an id, name=value" value={text} change={setText} />
        </div>
      </header>
      {problem && <p class="problem" role="alert">{problem}</p>}
      <Table
        label="Tasks"
        columns={COLUMNS}
        listed={listed}
        id={SOURCE.key}
        open={(task) => go("tasks", task.id)}
        look={(from, to) => listing.look(from, to)}
        empty={text || status.length || queue ? "No task fits." : "No tasks yet: polpoctl submit -- make"}
      />
      <p class="foot">
        {whole(listed.rows.length)} shown{listed.reading ? " – reading…" : listed.more ? " – scroll for older ones" : ""}
      </p>
    </section>
  );
}
