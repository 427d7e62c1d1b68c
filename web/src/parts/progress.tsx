// How far a job says that it is.
import type { Task } from "../model";

export function Progress({ of: task }: { of: Task }) {
  const { progress } = task;
  if (progress === null || task.finished_at !== null) return null;
  const percent = progress.percent ?? undefined;
  return (
    <span class="progress">
      <progress max={100} value={percent} aria-label={`Progress of task ${task.id}`} />
      {percent !== undefined && <span class="number">{Math.round(percent)} %</span>}
      {progress.text && <span class="faint text">{progress.text}</span>}
    </span>
  );
}
