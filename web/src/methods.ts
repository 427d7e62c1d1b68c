// The methods of the daemon that the dashboard calls: parameters and results (docs/rpc.md).
import type {
  Approval, Barrier, DaemonStatus, Event, Execution, GraphNode, Health, Mission, Processes, Queue, Run, RunStatistics, RunStatus,
  Schedule, Task, TaskStatus,
} from "./model";

type Nothing = Record<string, never>;
interface Selector {
  ids?: string[];
  queue?: string;
  labels?: Record<string, string>;
  status?: TaskStatus[];
}
interface Done {
  results: { id: string; status?: string; error?: { message: string } }[];
}
interface OnTasks {
  params: { select: Selector };
  result: Done;
}
interface OnMission<R> {
  params: { id: string };
  result: R;
}

export interface LogPart {
  run_id: number | null;
  offset: number;
  data: string;
  next_offset: number;
  size: number;
  end: boolean;
}

export interface Methods {
  "event.subscribe": {
    params: { after: number | null; kinds?: string[]; subject?: string };
    result: { subscription: number; next: number };
  };
  "event.unsubscribe": { params: { subscription: number }; result: object };
  "event.list": {
    params: { after?: number | null; kinds?: string[]; subject?: string; limit?: number };
    result: { events: Event[]; first: number | null; next: number };
  };
  "task.list": {
    params: { all?: boolean; select?: Selector; text?: string; limit?: number; before?: number; after?: number };
    result: { tasks: Task[]; next: number | null };
  };
  "task.get": { params: { id: string }; result: { task: Task; runs: Run[] } };
  "task.why": { params: { id: string }; result: { sentences: string[]; next: string[] } };
  "task.logs": {
    params: { id: string; run?: number; offset?: number; limit?: number; tail?: number; follow?: boolean };
    result: LogPart & { subscription?: number };
  };
  "task.cancel": OnTasks;
  "task.retry": OnTasks;
  "task.hold": OnTasks;
  "task.release": OnTasks;
  "run.get": { params: { id: number }; result: { run: Run } };
  "run.list": {
    params: { task_id?: string; status?: RunStatus[]; limit?: number; before?: number };
    result: { runs: Run[]; next: number | null };
  };
  "run.processes": { params: { id: number }; result: Processes };
  "run.usage": { params: { id: number }; result: { samples: { seconds: number; cpu_seconds: number; memory: number }[] } };
  "queue.list": { params: Nothing; result: { queues: Queue[] } };
  "queue.set": { params: { name: string; slots?: number | null; paused?: boolean }; result: object };
  "approval.list": {
    params: { status?: Approval["status"] | null; after?: number; limit?: number };
    result: { approvals: Approval[]; next: number | null };
  };
  "approval.approve": { params: { id: string; feedback?: string }; result: object };
  "approval.reject": { params: { id: string; feedback?: string; final?: boolean }; result: object };
  "approval.answer": { params: { id: string; text: string }; result: object };
  "mission.list": { params: { after?: number; limit?: number }; result: { missions: Mission[]; next: number | null } };
  "mission.get": {
    params: { id: string; limit?: number };
    result: { mission: Mission; execution: Execution | null; barriers: Barrier[] };
  };
  "mission.graph": OnMission<{ name: string; nodes: GraphNode[] }>;
  "mission.executions": OnMission<{ executions: Execution[] }>;
  "mission.execute": OnMission<object>;
  "mission.pause": OnMission<object>;
  "mission.resume": { params: { id: string; barrier?: string; retry_failed?: boolean }; result: object };
  "mission.abort": OnMission<object>;
  "schedule.list": { params: { after?: string; limit?: number }; result: { schedules: Schedule[]; next: string | null } };
  "schedule.enable": OnMission<object>;
  "schedule.disable": OnMission<object>;
  "schedule.next": { params: { id: string; limit?: number }; result: { timezone: string; times: string[]; local: string[] } };
  "stats.runs": {
    params: { by?: "agent" | "label" | "project" | "queue" };
    result: { groups: RunStatistics[]; total: RunStatistics | null };
  };
  "daemon.status": { params: Nothing; result: DaemonStatus };
  "daemon.health": { params: Nothing; result: Health };
}

export type Method = keyof Methods;
export type Params<M extends Method> = Methods[M]["params"];
export type Result<M extends Method> = Methods[M]["result"];
