// The queues: what runs in them, what is ready to, and whether anything starts.
import { act } from "../actions";
import { about, useLive } from "../live";
import type { Queue } from "../model";
import { Act } from "../parts/buttons";
import { Status } from "../parts/status";
import { path } from "../router";
import { call } from "../session";
import { useStore } from "../store";

export function QueuesPage() {
  const { value, problem } = useLive("queues", () => call("queue.list", {}), about("queue", "task"));
  const admin = useStore((state) => state.session.phase === "open" && state.session.role === "admin");
  return (
    <section class="page" aria-labelledby="heading">
      <h1 id="heading">Queues</h1>
      {problem && <p class="problem" role="alert">{problem}</p>}
      <div class="scroll">
        <table>
          <thead><tr><th>Queue</th><th>State</th><th>Busy</th><th>Slots</th><th>Ready</th><th>{admin && "Change"}</th></tr></thead>
          <tbody>{value?.queues.map((queue) => <Row key={queue.name} queue={queue} admin={admin} />)}</tbody>
        </table>
      </div>
    </section>
  );
}

function Row({ queue, admin }: { queue: Queue; admin: boolean }) {
  const { name, slots, paused, busy, ready } = queue;
  return (
    <tr>
      <td><a href={path("queues", name)}>{name}</a></td>
      <td><Status of={paused ? "paused" : "open"} /></td>
      <td class="number">
        {busy} {slots !== null && <meter min={0} max={Math.max(slots, 1)} value={busy} aria-label={`Slots of ${name} that are taken`} />}
      </td>
      <td class="number">{slots ?? "no limit of its own"}</td>
      <td class="number">{ready}</td>
      <td>
        {admin && (paused
          ? <Act run={() => act(`${name} goes on.`, "queue.set", { name, paused: false })}>Resume</Act>
          : <Act run={() => act(`${name} is paused.`, "queue.set", { name, paused: true })}>Pause</Act>)}
      </td>
    </tr>
  );
}
