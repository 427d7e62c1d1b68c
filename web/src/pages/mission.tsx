// One mission: its graph as it fills in, what holds it back, and how earlier executions ended.
import { act } from "../actions";
import { useLive } from "../live";
import type { Barrier, Event, Execution, Mission } from "../model";
import { Act } from "../parts/buttons";
import { Graph } from "../parts/graph";
import { Status } from "../parts/status";
import { Elapsed, Moment } from "../parts/time";
import { Timeline } from "../parts/timeline";
import { path } from "../router";
import { call } from "../session";
import { Stages } from "./missions";

export function MissionPage({ id }: { id: string }) {
  const touches = (event: Event) => event.subject.startsWith("mission/") || "execution_id" in event.body;
  const { value, problem } = useLive(`mission/${id}`, () => call("mission.get", { id, limit: 1 }), touches);
  const graph = useLive(`mission/${id}/graph`, () => call("mission.graph", { id }), touches).value;
  const executions = useLive(`mission/${id}/executions`, () => call("mission.executions", { id }), (event) => event.subject.startsWith("mission/")).value;
  if (value === undefined) return <p class={problem ? "problem" : "empty"} role={problem ? "alert" : "status"}>{problem ?? "Reading…"}</p>;
  const { mission, execution, barriers } = value;
  const holding = barriers.filter((barrier) => barrier.state === "holding");
  return (
    <article class="page mission" aria-labelledby="heading">
      <header>
        <p class="faint"><a href={path("missions")}>Missions</a> / {mission.id}</p>
        <h1 id="heading">{mission.name}</h1>
        <div class="line-up"><Status of={mission.status} /> <Buttons mission={mission} execution={execution} /></div>
        {execution?.reason && <p>{execution.reason}</p>}
        <Stages of={mission} />
      </header>
      {holding.map((barrier) => <Held key={barrier.id} mission={mission} barrier={barrier} />)}
      {graph && <section><h2>Graph</h2><Graph nodes={graph.nodes} label={`Graph of ${mission.name}`} /></section>}
      {executions && executions.executions.length > 0 && <section><h2>Executions</h2><Executions of={executions.executions} /></section>}
      <section><h2>Timeline</h2><Timeline subject={`mission/${mission.id}`} /></section>
    </article>
  );
}

function Buttons({ mission, execution }: { mission: Mission; execution: Execution | null }) {
  const { id } = mission;
  const status = execution?.status;
  const goes = status === "active" || status === "paused" || status === "cancelling";
  return (
    <span class="buttons">
      {!goes && <Act kind="good" run={() => act("It is carried out.", "mission.execute", { id })}>Execute</Act>}
      {status === "active" && <Act run={() => act("It is paused.", "mission.pause", { id })}>Pause</Act>}
      {status === "paused" && <Act run={() => act("It goes on.", "mission.resume", { id })}>Resume</Act>}
      {status === "failed" && <Act run={() => act("It goes on.", "mission.resume", { id, retry_failed: true })}>Retry what failed</Act>}
      {goes && <Act kind="bad" confirm="Cancel all that is left?" run={() => act("It is being cancelled.", "mission.abort", { id })}>Abort</Act>}
    </span>
  );
}

function Held({ mission, barrier }: { mission: Mission; barrier: Barrier }) {
  return (
    <section class="card ask" aria-label={`${barrier.kind} ${barrier.name}`}>
      <p><strong>{barrier.kind} {barrier.name}</strong> {barrier.message}</p>
      <p class="faint">{barrier.reason} {barrier.until && <>until <Moment at={barrier.until} /></>}</p>
      <Act run={() => act(`Through ${barrier.name}.`, "mission.resume", { id: mission.id, barrier: barrier.name })}>Let it through</Act>
    </section>
  );
}

function Executions({ of: executions }: { of: Execution[] }) {
  return (
    <div class="scroll">
      <table>
        <thead><tr><th>Execution</th><th>Status</th><th>By</th><th>Took</th><th>Started</th><th>Why</th></tr></thead>
        <tbody>
          {executions.slice(0, 100).map((execution) => (
            <tr key={execution.id}>
              <td class="number">{execution.number}</td>
              <td><Status of={execution.status} /></td>
              <td>{execution.started_by} ({execution.trigger})</td>
              <td><Elapsed from={execution.started_at} to={execution.finished_at} /></td>
              <td><Moment at={execution.started_at} /></td>
              <td>{execution.reason}</td>
            </tr>
          ))}
        </tbody>
      </table>
    </div>
  );
}
