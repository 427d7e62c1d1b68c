// What the daemon tells of: the fields that the dashboard shows, named as on the wire (docs/protocol.md).

export type Instant = string;
export type Role = "admin" | "operator" | "observer";

export type TaskStatus =
  | "draft" | "pending" | "awaiting_approval" | "assigned" | "in_progress" | "review" | "done" | "failed" | "cancelled";
export const TASK_STATUSES: readonly TaskStatus[] = [
  "pending", "awaiting_approval", "in_progress", "review", "failed", "done", "cancelled", "draft",
];
export type RunStatus = "starting" | "running" | "completed" | "failed" | "killed" | "lost";
export const RUN_STATUSES: readonly RunStatus[] = ["starting", "running", "completed", "failed", "killed", "lost"];

export interface Task {
  id: string;
  seq: number;
  title: string;
  description: string;
  status: TaskStatus;
  state: string;
  queue: string;
  project: string | null;
  labels: Record<string, string>;
  assigned_to: string | null;
  mission_id: string | null;
  depends_on: string[];
  priority: number;
  hold: boolean;
  run_id: number | null;
  attempts: number;
  retries: number;
  max_retries: number | null;
  recoveries: number;
  progress: { percent: number | null; text: string | null } | null;
  result: { run_id: number; status: string; reason: string; exit_code: number | null; signal: number | null; error: string | null; duration: number | null } | null;
  approval: Approval | null;
  not_before: Instant | null;
  deadline: Instant | null;
  created_at: Instant;
  updated_at: Instant;
  started_at: Instant | null;
  finished_at: Instant | null;
  spec?: Spec | null;
}

export interface Spec {
  command: string[] | null;
  shell: string | null;
  cwd: string;
  env: string[] | Record<string, string>;
}

export interface Run {
  id: number;
  task_id: string;
  attempt: number;
  phase: "execution" | "review";
  queue: string;
  agent: string | null;
  status: RunStatus;
  reason: string | null;
  pid: number | null;
  job_pid: number | null;
  containment: string;
  exit_code: number | null;
  signal: number | null;
  error: string | null;
  created_at: Instant;
  started_at: Instant | null;
  ended_at: Instant | null;
  duration: number | null;
  cpu_seconds: number | null;
  max_rss: number | null;
  leftovers: number | null;
  log_path: string;
}

export interface Event {
  seq: number;
  at: Instant;
  kind: string;
  subject: string;
  body: Record<string, unknown>;
}

export interface Queue {
  name: string;
  slots: number | null;
  paused: boolean;
  busy: number;
  ready: number;
}

export interface Approval {
  id: string;
  seq: number;
  kind: string | null;
  status: "pending" | "approved" | "rejected" | "timeout";
  gate_name: string;
  task_id: string | null;
  mission_id: string | null;
  project: string | null;
  message: string;
  payload: unknown;
  requested_at: Instant;
  resolved_at: Instant | null;
  resolved_by: string | null;
  deadline: Instant | null;
  on_timeout: string | null;
  feedback: string | null;
  note: string | null;
  revision: number;
  max_revisions: number;
}

export interface Mission {
  id: string;
  seq: number;
  name: string;
  status: string;
  prompt: string | null;
  deadline: Instant | null;
  schedule: string | null;
  execution_count: number;
  created_at: Instant;
  updated_at: Instant;
  next_at: Instant | null;
  tasks: Partial<Record<"moving" | "blocked" | "done" | "failed" | "cancelled", number>>;
}

export interface Execution {
  id: string;
  number: number;
  status: string;
  trigger: string;
  started_by: string;
  reason: string | null;
  started_at: Instant;
  finished_at: Instant | null;
}

export interface Barrier {
  id: string;
  kind: "gate" | "checkpoint" | "delay";
  name: string;
  message: string | null;
  state: "waiting" | "holding" | "open";
  reason: string | null;
  until: Instant | null;
}

export interface GraphNode {
  id: string | null;
  kind: "task" | "gate" | "checkpoint" | "delay";
  name: string;
  state: string | null;
  layer: number;
  after: number[];
}

export interface Schedule {
  mission_id: string;
  mission: string | null;
  expression: string;
  timezone: string;
  enabled: boolean;
  held: boolean;
  reason: string | null;
  next_at: Instant | null;
  last_at: Instant | null;
  last_outcome: string | null;
  last_reason: string | null;
  misfire: string;
  overlap: string;
}

export interface DaemonStatus {
  version: string;
  pid: number;
  started_at: Instant;
  uptime: number;
  state: string;
  root: string;
  storage: string;
  store: { where: string; trouble: string | null };
  containment: string;
  tasks: Partial<Record<TaskStatus, number>>;
  runs: Partial<Record<RunStatus, number>>;
  max_concurrency: number;
  launcher: { paused: string | null };
  stuck: number[];
  quarantined: number;
}

export interface Health {
  ok: boolean;
  checks: Record<string, boolean>;
}

export interface RunStatistics {
  group: string;
  count: number;
  success_rate: number;
  median_duration: number;
  p95_duration: number;
  cpu_seconds: number;
  peak_memory: number | null;
}

export interface RunProcess {
  pid: number;
  parent: number;
  command: string;
  state: string;
  threads: number;
  cpu_seconds: number;
  memory: number;
}

export interface Processes {
  at: Instant;
  processes: RunProcess[];
  more: boolean;
  cpu_seconds: number | null;
  memory: number;
}
