// What a status looks like: a word with a colour, never a colour alone.
import { words } from "../format";

/** Which colour a status has, of anything; what is not named is at rest. */
const TONES: Readonly<Record<string, string>> = {
  running: "busy", in_progress: "busy", assigned: "busy", starting: "busy", active: "busy", review: "busy", cancelling: "busy",
  executing: "busy", moving: "busy",
  done: "good", completed: "good", open: "good", approved: "good", ok: "good",
  failed: "bad", lost: "bad", killed: "bad", stuck: "bad", blocked: "bad", rejected: "bad", timeout: "bad",
  awaiting_approval: "ask", paused: "ask", holding: "ask", held: "ask", hold: "ask",
};

export function tone(status: string): string {
  return TONES[status] ?? "rest";
}

export function Status({ of }: { of: string }) {
  return <span class={`status ${tone(of)}`}>{words(of)}</span>;
}
