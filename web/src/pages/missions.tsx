// All missions, the newest first, with how far each is.
import { useState } from "preact/hooks";
import { about, useLive } from "../live";
import type { Mission } from "../model";
import { Status } from "../parts/status";
import { Moment } from "../parts/time";
import { path } from "../router";
import { call } from "../session";

const PAGE = 100;
export const STAGES = ["done", "moving", "blocked", "failed", "cancelled"] as const;

export function MissionsPage() {
  const [limit, setLimit] = useState(PAGE);
  const { value, problem } = useLive(`missions/${limit}`, () => upTo(limit), about("mission", "task"));
  return (
    <section class="page" aria-labelledby="heading">
      <h1 id="heading">Missions</h1>
      {problem && <p class="problem" role="alert">{problem}</p>}
      {value?.missions.length === 0 && <p class="empty">No missions yet: polpoctl mission create --file plan.json</p>}
      <ul class="plain">{value?.missions.map((mission) => <Item key={mission.id} mission={mission} />)}</ul>
      {value?.more && <button type="button" onClick={() => setLimit(limit + PAGE)}>Older ones</button>}
    </section>
  );
}

async function upTo(limit: number): Promise<{ missions: Mission[]; more: boolean }> {
  let missions: Mission[] = [];
  let after: number | null = null;
  do {
    const page: { missions: Mission[]; next: number | null } = await call("mission.list", { limit: PAGE, ...(after !== null && { after }) });
    missions = [...missions, ...page.missions];
    after = page.next;
  } while (after !== null && missions.length < limit);
  return { missions, more: after !== null };
}

function Item({ mission }: { mission: Mission }) {
  return (
    <li class="card">
      <div class="line-up">
        <a href={path("missions", mission.id)}><strong>{mission.name}</strong></a> <Status of={mission.status} />
        <span class="grow" />
        {mission.next_at && <span class="faint">next <Moment at={mission.next_at} /></span>}
      </div>
      <Stages of={mission} />
    </li>
  );
}

/** How many of its tasks stand where, as a bar and in words. */
export function Stages({ of: mission }: { of: Mission }) {
  const there = STAGES.filter((stage) => mission.tasks[stage]);
  if (there.length === 0) return <p class="faint">not carried out yet</p>;
  return (
    <>
      <div class="stages" aria-hidden="true">
        {there.map((stage) => <span key={stage} class={stage} style={{ flexGrow: mission.tasks[stage] ?? 0 }} />)}
      </div>
      <p class="faint">{there.map((stage) => `${mission.tasks[stage]} ${stage}`).join(", ")}</p>
    </>
  );
}
