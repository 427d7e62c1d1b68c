// What waits for a person: approvals and questions, the oldest first; and what was decided.
import { useState } from "preact/hooks";
import { commandLine, words } from "../format";
import { about, decides, useLive } from "../live";
import type { Approval } from "../model";
import { Context } from "../parts/context";
import { Decide } from "../parts/decide";
import { Status } from "../parts/status";
import { Moment } from "../parts/time";
import { path } from "../router";
import { call } from "../session";

const MOST = 200;
export function ApprovalsPage() {
  const [decided, setDecided] = useState(false);
  const { value, problem } = useLive("approvals", () => call("approval.list", { limit: MOST }), decides);
  const pending = value?.approvals ?? [];
  const questions = pending.filter((request) => request.kind === "question");
  const others = pending.filter((request) => request.kind !== "question");
  return (
    <section class="page" aria-labelledby="heading">
      <h1 id="heading">Approvals <small>{pending.length}{value?.next != null && "+"}</small></h1>
      {problem && <p class="problem" role="alert">{problem}</p>}
      {value !== undefined && pending.length === 0 && <p class="empty">Nothing waits for a person.</p>}
      {others.map((request) => <Request key={request.id} request={request} />)}
      {questions.length > 0 && <h2>Questions</h2>}
      {questions.map((request) => <Request key={request.id} request={request} />)}
      <details onToggle={(event) => setDecided(event.currentTarget.open)}>
        <summary>What was decided</summary>
        {decided && <Decided />}
      </details>
    </section>
  );
}

function Request({ request }: { request: Approval }) {
  return (
    <section class="card ask" aria-label={`Request ${request.id}`}>
      {request.task_id !== null && <About task={request.task_id} request={request.id} />}
      <Context request={request} />
      <Decide request={request} />
    </section>
  );
}

/** The task that it is about: what it is called, what it would execute, and how it stands. */
function About({ task: id, request }: { task: string; request: string }) {
  const { value } = useLive(`${request}/task`, () => call("task.get", { id }), about(`task/${id}`));
  if (value === undefined) return null;
  const { task, runs } = value;
  return (
    <>
      <h2><a href={path("tasks", id)}>{task.title}</a> <Status of={task.state} /></h2>
      {task.spec && <p><code>{commandLine(task.spec)}</code></p>}
      {task.result && runs.length > 0 && <p class="faint">run {task.result.run_id}: {words(task.result.status)}, {words(task.result.reason)}</p>}
    </>
  );
}

function Decided() {
  const { value } = useLive("approvals/all", everything, decides);
  return (
    <ul class="plain">
      {value?.map((request) => (
        <li key={request.id} class="card">
          <Status of={request.status} /> by {request.resolved_by ?? "nobody"}, <Moment at={request.resolved_at} />
          {request.feedback && <blockquote>{request.feedback}</blockquote>}
          <Context request={request} />
        </li>
      ))}
    </ul>
  );
}

/** The last ones that are not pending, the newest first; read to the end, since the list begins with the oldest. */
async function everything(): Promise<Approval[]> {
  let found: Approval[] = [];
  let after = 0;
  for (;;) {
    const page = await call("approval.list", { status: null, after, limit: 1000 });
    found = [...found, ...page.approvals.filter((request) => request.status !== "pending")].slice(-MOST);
    if (page.next === null) return found.reverse();
    after = page.next;
  }
}
