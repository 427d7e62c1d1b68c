// The daemon: whether all is well, what it is, and what runs took.
import { bytes, duration, whole, words } from "../format";
import { useLive } from "../live";
import type { DaemonStatus, Event, RunStatistics } from "../model";
import { Status } from "../parts/status";
import { Moment } from "../parts/time";
import { call } from "../session";

const EVERY = 5;
/** What each check says when it is passed, and when it fails. */
const MEANING: Readonly<Record<string, [string, string]>> = {
  store: ["the task store is reached", "the task store cannot be reached"],
  recovered: ["recovered", "it still looks at what it left"],
  accepting: ["takes in work", "it is stopping"],
  disk: ["the disk has room", "the disk is full: nothing starts"],
  wal: ["checkpoints get through", "the write-ahead log is long: checkpoints do not get through"],
  launcher: ["work is started", "nothing can be started"],
  stuck: ["nothing is stuck", "something survives SIGKILL"],
};

const never = (_: Event) => false;

export function HealthPage() {
  const { value: health, problem } = useLive("health", () => call("daemon.health", {}), (event) => event.subject === "daemon", EVERY);
  const { value: status, problem: trouble } = useLive("status", () => call("daemon.status", {}), (event) => event.subject === "daemon", EVERY);
  const statistics = useLive("statistics", () => call("stats.runs", { by: "queue" }), never, 30).value;
  return (
    <section class="page" aria-labelledby="heading">
      <h1 id="heading">Health {health && <Status of={health.ok ? "ok" : "failed"} />}</h1>
      {(problem ?? trouble) && <p class="problem" role="alert">{problem ?? trouble}</p>}
      <ul class="checks" aria-label="Checks">
        {Object.entries(health?.checks ?? {}).map(([name, good]) => (
          <li key={name} class={good ? "good" : "bad"}>
            <span aria-hidden="true">{good ? "✓" : "✗"}</span> {MEANING[name]?.[good ? 0 : 1] ?? words(name)}
          </li>
        ))}
      </ul>
      {status && <Facts status={status} />}
      {statistics && statistics.groups.length > 0 && <Statistics groups={statistics.groups} />}
    </section>
  );
}

function Facts({ status }: { status: DaemonStatus }) {
  const facts: [string, preact.ComponentChildren][] = [
    ["Version", status.version],
    ["State", <Status of={status.state} />],
    ["Pid", status.pid],
    ["Up since", <Moment at={status.started_at} />],
    ["Directory", <code>{status.root}</code>],
    ["Store", <>{status.storage} <code>{status.store.where}</code></>],
    ["Trouble", status.store.trouble],
    ["Launcher", status.launcher.paused],
    ["Containment", status.containment],
    ["Most runs at once", status.max_concurrency],
    ["Stuck runs", status.stuck.length > 0 && status.stuck.join(", ")],
    ["Unreadable rows", status.quarantined || null],
    ["Tasks", counted(status.tasks)],
    ["Runs", counted(status.runs)],
  ];
  return (
    <dl class="facts">
      {facts.filter(([, value]) => value).map(([name, value]) => <div key={name}><dt>{name}</dt><dd>{value}</dd></div>)}
    </dl>
  );
}

function counted(counts: Partial<Record<string, number>>): string {
  return Object.entries(counts).map(([status, count]) => `${whole(count ?? 0)} ${words(status)}`).join(", ");
}

function Statistics({ groups }: { groups: RunStatistics[] }) {
  return (
    <section>
      <h2>Runs by queue</h2>
      <div class="scroll">
        <table>
          <thead><tr><th>Queue</th><th>Runs</th><th>Succeeded</th><th>Median</th><th>95 %</th><th>CPU</th><th>Most memory</th></tr></thead>
          <tbody>
            {groups.map((group) => (
              <tr key={group.group}>
                <td>{group.group}</td>
                <td class="number">{whole(group.count)}</td>
                <td class="number">{Math.round(group.success_rate * 100)} %</td>
                <td class="number">{duration(group.median_duration)}</td>
                <td class="number">{duration(group.p95_duration)}</td>
                <td class="number">{duration(group.cpu_seconds)}</td>
                <td class="number">{group.peak_memory !== null && bytes(group.peak_memory)}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
    </section>
  );
}
