// What is asked of a person, and what there is to know about it.
import { path } from "../router";
import { words } from "../format";
import type { Approval } from "../model";
import { Elapsed, Moment } from "./time";

/** What is asked, by kind, where no more was said. */
const ASKED: Readonly<Record<string, string>> = {
  start: "May it start?",
  done: "Is what it did good?",
  lost: "Nobody knows how it ended: shall it be done again?",
  shutdown: "It was ended as polpod stopped, and has side effects: shall it be done again?",
  launch: "It could not be started, again and again: try once more?",
  side_effects: "It has side effects: shall it be done again?",
  escalation: "Nobody got it right: what now?",
  budget: "It spent what it may: may it spend as much again?",
  quarantined: "The record of its run cannot be read: shall it be done again?",
};

export function Context({ request }: { request: Approval }) {
  const known = request.payload !== null && request.payload !== undefined && JSON.stringify(request.payload, null, 2);
  return (
    <>
      <p class="asked">{request.message || (ASKED[request.kind ?? ""] ?? `${words(request.kind ?? "decision")}?`)}</p>
      <p class="faint">
        {request.id} · {words(request.kind ?? "decision")}
        {request.gate_name && <> · gate {request.gate_name}</>}
        {request.task_id && <> · task <a href={path("tasks", request.task_id)}>{request.task_id}</a></>}
        {request.mission_id && <> · mission <a href={path("missions", request.mission_id)}>{request.mission_id}</a></>}
        {request.project && <> · project {request.project}</>}
        {request.status === "pending" ? <> · waits for <Elapsed from={request.requested_at} to={null} /></> : <> · asked <Moment at={request.requested_at} /></>}
        {request.deadline && <> · until <Moment at={request.deadline} />{request.on_timeout && `, then ${request.on_timeout}`}</>}
        {request.revision > 0 && <> · version {request.revision + 1}</>}
      </p>
      {known && known !== "{}" && <details><summary>Details</summary><pre>{known}</pre></details>}
    </>
  );
}
