// One task: what it is, why it waits, what it says, what happened, and what each run took.
import { act } from "../actions";
import { bytes, commandLine, duration, words } from "../format";
import { useLive } from "../live";
import type { Event, Run, Task } from "../model";
import { Act } from "../parts/buttons";
import { Context } from "../parts/context";
import { Decide } from "../parts/decide";
import { Log } from "../parts/log";
import { Progress } from "../parts/progress";
import { Resources } from "../parts/resources";
import { Status } from "../parts/status";
import { Elapsed, Moment, Took } from "../parts/time";
import { Timeline } from "../parts/timeline";
import { Usage } from "../parts/usage";
import { path } from "../router";
import { call } from "../session";
import { outcome } from "./runs";

/** Seconds: how it stands may depend on others, of whom its own events do not tell. */
const EVERY = 5;
/** Seconds after which a run has two samples, and so a curve. */
const SAMPLED = 10;
const STARTED = new Set(["in_progress", "assigned", "review"]);
const LIVE = new Set(["starting", "running"]);
const OVER = new Set(["done", "failed", "cancelled"]);

export function TaskPage({ id, run: named }: { id: string; run: number | undefined }) {
  const touches = (event: Event) => event.subject === `task/${id}`;
  const { value, problem } = useLive(`task/${id}`, () => call("task.get", { id }), touches, EVERY);
  if (value === undefined) return <p class={problem ? "problem" : "empty"} role={problem ? "alert" : "status"}>{problem ?? "Reading…"}</p>;
  const { task, runs } = value;
  const shown = named === undefined ? runs.at(-1) : runs.find((run) => run.id === named);
  const logged = named ?? shown?.id; // one that is not among the last ones has its log all the same
  return (
    <article class="page task" aria-labelledby="heading">
      <header>
        <p class="faint"><a href={path("tasks")}>Tasks</a> / {task.id}</p>
        <h1 id="heading">{task.title || `Task ${task.id}`}</h1>
        <div class="line-up"><Status of={task.state} /> <Progress of={task} /> <Buttons task={task} /></div>
      </header>
      {!OVER.has(task.status) && !STARTED.has(task.status) && <Why id={id} title="Why it waits" />}
      {task.status === "failed" && <Why id={id} title="Why it failed" />}
      {task.approval?.status === "pending" && (
        <section class="card ask" aria-label="Approval">
          <h2>{task.approval.kind === "question" ? "It asks" : "It waits for approval"}</h2>
          <Context request={task.approval} />
          <Decide request={task.approval} />
        </section>
      )}
      <Facts task={task} />
      {logged !== undefined && <section><h2>Log</h2><Log key={logged} task={task.id} run={logged} /></section>}
      {runs.length > 0 && <section><h2>Runs</h2><Runs runs={runs} shown={shown} /></section>}
      {shown && (LIVE.has(shown.status) || runs.length > 1 || (shown.duration ?? 0) > SAMPLED) && (
        <section>
          <h2>Resources</h2>
          <Usage key={`${shown.id}-${LIVE.has(shown.status)}`} run={shown} live={LIVE.has(shown.status)} />
          <Resources runs={runs} shown={shown} />
        </section>
      )}
      <section><h2>Timeline</h2><Timeline subject={`task/${task.id}`} /></section>
    </article>
  );
}

function Buttons({ task }: { task: Task }) {
  const select = { ids: [task.id] };
  return (
    <span class="buttons">
      {!OVER.has(task.status) && (
        <Act kind="bad" confirm="Cancel it?" run={() => act("It is being cancelled.", "task.cancel", { select })}>Cancel</Act>
      )}
      {(task.status === "failed" || task.status === "cancelled") && (
        <Act run={() => act("It is tried again.", "task.retry", { select })}>Retry</Act>
      )}
      {task.status === "pending" && !task.hold && <Act run={() => act("It is held.", "task.hold", { select })}>Hold</Act>}
      {task.hold && <Act run={() => act("It is released.", "task.release", { select })}>Release</Act>}
    </span>
  );
}

function Why({ id, title }: { id: string; title: string }) {
  const { value } = useLive(`why/${id}`, () => call("task.why", { id }), (event) => event.subject === `task/${id}`, EVERY);
  if (value === undefined) return null;
  const { sentences, next } = value;
  return (
    <section class="card why" aria-label={title}>
      <h2>{title}</h2>
      {sentences.map((sentence) => <p key={sentence}>{sentence}</p>)}
      {next.length > 0 && <p class="faint">What would change it: {next.map((command) => <code key={command}>{command}</code>)}</p>}
    </section>
  );
}

function ended({ status, reason, exit_code: code }: NonNullable<Task["result"]>): string {
  return [words(status), words(reason), ...(code === null ? [] : [`exit code ${code}`])].join(", ");
}

const WIDE = new Set(["Command", "Description", "Error"]);

function Facts({ task }: { task: Task }) {
  const labels = Object.entries(task.labels);
  const facts: [string, preact.ComponentChildren][] = [
    ["Command", task.spec && <code>{commandLine(task.spec)}</code>],
    ["In", task.spec?.cwd && <code>{task.spec.cwd}</code>],
    ["Description", task.description],
    ["Queue", <a href={path("queues", task.queue)}>{task.queue}</a>],
    ["Priority", task.priority || null],
    ["Agent", task.assigned_to],
    ["Project", task.project],
    ["Mission", task.mission_id && <a href={path("missions", task.mission_id)}>{task.mission_id}</a>],
    ["Labels", labels.length > 0 && labels.map(([name, value]) => <span class="label" key={name}>{value ? `${name}=${value}` : name}</span>)],
    ["After", task.depends_on.length > 0 && task.depends_on.map((on) => <a key={on} href={path("tasks", on)}>{on}</a>)],
    ["Submitted", <Moment at={task.created_at} />],
    ["Not before", task.not_before && <Moment at={task.not_before} />],
    ["Deadline", task.deadline && <Moment at={task.deadline} />],
    ["Took", (task.result ?? task.started_at) && <Took of={task} />],
    ["Retries", task.retries > 0 && `${task.retries}${task.max_retries === null ? "" : ` of ${task.max_retries}`}`],
    ["Recoveries", task.recoveries || null],
    ["Result", task.result && ended(task.result)],
    ["Error", task.result?.error],
  ];
  return (
    <dl class="facts">
      {facts.filter(([, value]) => value).map(([name, value]) => <div key={name} class={WIDE.has(name) ? "wide" : ""}><dt>{name}</dt><dd>{value}</dd></div>)}
    </dl>
  );
}

function Runs({ runs, shown }: { runs: Run[]; shown: Run | undefined }) {
  return (
    <div class="scroll">
      <table>
        <thead><tr><th>Run</th><th>Phase</th><th>Status</th><th>Ended by</th><th>Took</th><th>CPU</th><th>Memory</th><th>Started</th></tr></thead>
        <tbody>
          {[...runs].reverse().map((run) => (
            <tr key={run.id} aria-current={run.id === shown?.id ? "true" : undefined}>
              <td><a href={path("tasks", run.task_id, String(run.id))}>{run.id}</a></td>
              <td>{run.phase}</td>
              <td><Status of={run.status} /></td>
              <td>{outcome(run)}{run.error && ` – ${run.error}`}</td>
              <td><Elapsed from={run.started_at} to={run.ended_at} /></td>
              <td class="number">{run.cpu_seconds !== null && duration(run.cpu_seconds)}</td>
              <td class="number">{run.max_rss !== null && bytes(run.max_rss)}</td>
              <td><Moment at={run.started_at} /></td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
