// A run's log, followed: its last lines first, then what is written, without a gap over a new connection.
import { begun, pieces, type Piece, type Style } from "./ansi";
import { bytes } from "./format";
import type { LogPart } from "./methods";
import { ContactLost } from "./rpc";
import { call, onLog } from "./session";
import { forget, put } from "./store";

const TAIL = 2000;
const EARLIER = 2 ** 18;
const PART = 2 ** 20;
/** Lines that are kept; of a longer log the first ones are let go, and can be had by a download. */
const MOST = 100_000;
const LONGEST = 5000;
const MOST_PIECES = 500;
const PACE = 100;

export interface Line {
  pieces: Piece[];
  text: string;
}

export interface LogView {
  /** Grows in place; `version` says when. */
  lines: readonly Line[];
  version: number;
  /** Where the first line begins, in bytes; null: what is kept of what was before it is to be had by a download. */
  from: number | null;
  end: boolean;
}

function bytesOf(data: string): Uint8Array {
  return Uint8Array.from(atob(data), (character) => character.charCodeAt(0));
}

export class RunLog {
  #lines: Line[] = [];
  #rest = "";
  #style: Style = {};
  #decoder = new TextDecoder();
  #from: number | null = 0;
  #next: number | null = null;
  #version = 0;
  #turn = 0;
  #end = false;
  #stop: (() => void) | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #closed = false;

  constructor(
    readonly key: string,
    readonly task: string,
    readonly run: number,
  ) {}

  /** Read on from where it was read to; to be called with each connection. */
  async follow(): Promise<void> {
    if (this.#end) return;
    const turn = ++this.#turn; // who is asked to go on once more meanwhile adds nothing twice
    this.#stop?.();
    this.#stop = undefined;
    const log = { id: this.task, run: this.run };
    try {
      if (this.#next === null) {
        const last = await call("task.logs", { ...log, tail: TAIL });
        if (turn !== this.#turn) return;
        this.#from = last.offset;
        this.#add(last);
      }
      const { subscription } = await call("task.logs", { ...log, offset: this.#next ?? 0, follow: true });
      if (subscription === undefined) return;
      const stop = onLog(subscription, (part) => this.#add(part));
      if (this.#closed || turn !== this.#turn) return stop();
      this.#stop = stop;
    } catch (problem) {
      if (!this.#closed && !(problem instanceof ContactLost)) put(this.key, { value: this.#view(), problem: (problem as Error).message });
    }
  }

  /** Read what is before the first line. */
  async earlier(): Promise<void> {
    const from = this.#from;
    if (!from) return;
    const offset = Math.max(0, from - EARLIER);
    const part = await call("task.logs", { id: this.task, run: this.run, offset, limit: from - offset });
    if (from !== this.#from) return; // it was read meanwhile, or is let go
    const read = bytesOf(part.data).subarray(0, Math.max(0, from - part.offset));
    const newline = read.indexOf(10);
    // A part begins within a line, which the one before it has; one that is longer than a part is shown by parts.
    const begins = part.offset === 0 || newline === read.length - 1 ? 0 : newline + 1;
    const text = new TextDecoder().decode(read.subarray(begins)).replace(/\n$/, "");
    let style: Style = {};
    const lines = text === "" ? [] : text.split("\n").map((line) => {
      const [found, ended] = pieces(line, style);
      style = ended;
      return made(found);
    });
    const gap = from - part.offset - read.length;
    this.#lines = [...lines, ...(gap > 0 ? [letGo(gap)] : []), ...this.#lines];
    // Of a long log polpod keeps the beginning and the end: before a hole there is but the beginning.
    this.#from = part.offset > offset ? null : part.offset + begins;
    this.#show();
  }

  close(): void {
    this.#closed = true;
    this.#stop?.();
    clearTimeout(this.#timer);
    forget(this.key);
  }

  #add(part: LogPart): void {
    if (part.data && this.#next !== null && part.offset > this.#next) {
      const cut = this.#decoder.decode();
      if (this.#rest + cut !== "") this.#read(`${cut}\n`); // what goes on behind a hole is another line
      this.#lines.push(letGo(part.offset - this.#next));
    }
    this.#next = part.next_offset;
    this.#end = part.end;
    this.#read(this.#decoder.decode(bytesOf(part.data), { stream: !part.end }));
    if (this.#lines.length > MOST) {
      this.#lines.splice(0, this.#lines.length - MOST * 0.9);
      this.#from = null;
    }
    this.#timer ??= setTimeout(() => this.#show(), PACE);
  }

  #read(text: string): void {
    const [first = "", ...others] = text.split("\n");
    const lines = [this.#rest + first, ...others];
    this.#rest = begun(lines.pop() ?? "");
    for (const line of lines) {
      const [found, style] = pieces(line, this.#style);
      this.#style = style;
      this.#lines.push(made(found));
    }
  }

  #view(): LogView {
    const unfinished = this.#rest === "" ? [] : [made(pieces(this.#rest, this.#style)[0])];
    const lines = unfinished.length > 0 ? [...this.#lines, ...unfinished] : this.#lines;
    return { lines, version: this.#version, from: this.#from, end: this.#end };
  }

  #show(): void {
    this.#timer = undefined;
    this.#version++;
    if (!this.#closed) put(this.key, { value: this.#view(), problem: null });
  }
}

/** Stands for what polpod did not keep of a long log. */
function letGo(count: number): Line {
  return made([{ text: `… ${bytes(count)} were let go …`, style: { dim: true } }]);
}

function made(found: Piece[]): Line {
  const text = found.map((piece) => piece.text).join("");
  if (text.length <= LONGEST && found.length <= MOST_PIECES) return { pieces: found, text };
  const cut = text.length <= LONGEST ? text : `${text.slice(0, LONGEST)} … (a longer line: all of it by download)`;
  return { pieces: [{ text: cut, style: {} }], text: cut };
}

/** The whole log as a file, byte for byte; of a job that goes on writing about as far as it went at first. */
export async function download(task: string, run: number): Promise<void> {
  const parts: Uint8Array<ArrayBuffer>[] = [];
  let until: number | undefined; // undefined to the end beside a polpod that was downgraded, which says no size
  for (let offset = 0; until === undefined || offset < until;) {
    const part = await call("task.logs", { id: task, run, offset, limit: PART });
    if (part.data === "") break;
    parts.push(bytesOf(part.data) as Uint8Array<ArrayBuffer>);
    offset = part.next_offset;
    until ??= part.size;
  }
  const url = URL.createObjectURL(new Blob(parts, { type: "text/plain" }));
  const link = document.createElement("a");
  link.href = url;
  link.download = `task-${task.replace(/[^\w.-]/g, "_")}-run-${run}.log`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}
