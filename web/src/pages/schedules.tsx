// When missions are carried out by themselves.
import { useState } from "preact/hooks";
import { act } from "../actions";
import { about, useLive } from "../live";
import type { Schedule } from "../model";
import { Act } from "../parts/buttons";
import { Status } from "../parts/status";
import { Moment } from "../parts/time";
import { path } from "../router";
import { call } from "../session";

export function SchedulesPage() {
  const { value, problem } = useLive("schedules", everything, about("mission"));
  return (
    <section class="page" aria-labelledby="heading">
      <h1 id="heading">Schedules</h1>
      {problem && <p class="problem" role="alert">{problem}</p>}
      {value?.length === 0 && <p class="empty">No schedules yet: polpoctl schedule set MISSION '0 3 * * *'</p>}
      <ul class="plain">{value?.map((schedule) => <Item key={schedule.mission_id} schedule={schedule} />)}</ul>
    </section>
  );
}

async function everything(): Promise<Schedule[]> {
  let found: Schedule[] = [];
  let after: string | null = null;
  do {
    const page: { schedules: Schedule[]; next: string | null } = await call("schedule.list", { limit: 1000, ...(after !== null && { after }) });
    found = [...found, ...page.schedules];
    after = page.next;
  } while (after !== null);
  return found;
}

function Item({ schedule }: { schedule: Schedule }) {
  const [times, show] = useState(false);
  const { mission_id: id, enabled, held } = schedule;
  return (
    <li class="card">
      <div class="line-up">
        <a href={path("missions", id)}><strong>{schedule.mission ?? id}</strong></a>
        <Status of={held ? "held" : enabled ? "enabled" : "disabled"} />
        <code>{schedule.expression}</code> <span class="faint">{schedule.timezone}</span>
        <span class="grow" />
        {enabled
          ? <Act run={() => act("It is disabled.", "schedule.disable", { id })}>Disable</Act>
          : <Act run={() => act("It is enabled.", "schedule.enable", { id })}>Enable</Act>}
      </div>
      <p>
        next <Moment at={enabled ? schedule.next_at : null} /> · last <Moment at={schedule.last_at} />
        {schedule.last_outcome && <> <Status of={schedule.last_outcome} /></>} {schedule.last_reason}
      </p>
      {schedule.reason && <p class="faint">{schedule.reason}</p>}
      <p class="faint">missed times: {schedule.misfire} · while one goes on: {schedule.overlap}</p>
      <details onToggle={(event) => show(event.currentTarget.open)}>
        <summary>The times that are to come</summary>
        {times && <Times id={id} />}
      </details>
    </li>
  );
}

function Times({ id }: { id: string }) {
  const { value, problem } = useLive(`schedule/${id}/next`, () => call("schedule.next", { id, limit: 10 }), about(`mission/${id}`));
  if (problem) return <p class="problem">{problem}</p>;
  return <ol>{value?.local.map((at) => <li key={at}><time dateTime={at}>{at.replace("T", " ")}</time></li>)}</ol>;
}
