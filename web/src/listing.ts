// A table of any length, the newest row first: read by cursor as a person scrolls, and kept current by the journal.
//
// Rules: 1. What an event touched is asked for again, a bounded batch at a time, rows in view before others.  2. A row that is
// not there yet joins where the filter lets it, at its place; beyond what was read it is left for the next page.  3. When more
// came than a batch can ask for, the newest page is read anew and joined to what was there; where a filter leaves rows out,
// the table is begun anew with it, since older ones may fit by now.
import { ContactLost, Refused } from "./rpc";
import type { Event } from "./model";
import { forget, put } from "./store";

const PAGE = 200;
const MANY = 1000;
const BATCH = 200;
const PACE = 300;
const DRIFT = 5000;
/** Where no row's number comes near. */
const NEWEST = Number.MAX_SAFE_INTEGER;

export interface Source<Row, Filter> {
  page(filter: Filter, before: number, limit: number): Promise<{ rows: Row[]; next: number | null }>;
  /** These rows as they are now; what is gone is left out. */
  some(keys: string[]): Promise<Row[]>;
  key(row: Row): string;
  /** Newer rows have larger numbers. */
  place(row: Row): number;
  fits(row: Row, filter: Filter): boolean;
  /** Whether all rows fit. */
  whole(filter: Filter): boolean;
  /** How many rows to ask for at once where pages may have few that fit, and reading goes on until some are found. */
  scans(filter: Filter): number | null;
  touched(event: Event): string | null;
  /** Whether it may come to stand otherwise without an event of its own; such rows are asked for again while in view. */
  drifts(row: Row): boolean;
  removed(event: Event): boolean;
}

export interface Listed<Row> {
  rows: Row[];
  /** Whether older ones are there to be read. */
  more: boolean;
  reading: boolean;
}

export class Listing<Row, Filter> {
  #rows: Row[] = [];
  #next: number | null = NEWEST;
  #reading = false;
  #closed = true;
  #touched = new Set<string>();
  #view: [number, number] = [0, 0];
  #drift: ReturnType<typeof setInterval> | undefined;
  #timer: ReturnType<typeof setTimeout> | undefined;

  constructor(
    readonly key: string,
    readonly source: Source<Row, Filter>,
    readonly filter: Filter,
  ) {}

  open(): void {
    this.#closed = false;
    this.#drift = setInterval(() => this.#drifted(), DRIFT);
    this.#show();
  }

  close(): void {
    this.#closed = true;
    clearInterval(this.#drift);
    clearTimeout(this.#timer);
    forget(this.key);
  }

  /** Read the newest page, and with it all that may have changed. */
  async renew(): Promise<void> {
    await this.#read(NEWEST);
    for (const row of this.#rows) this.#touched.add(this.source.key(row));
    this.#soon();
    if (this.source.scans(this.filter) !== null) await this.more();
  }

  /** Read the next page; where rows are looked for, pages until some are found. */
  async more(): Promise<void> {
    const had = this.#rows.length;
    do {
      if (this.#closed || this.#next === null || this.#reading) return;
      await this.#read(this.#next);
    } while (!this.#closed && this.source.scans(this.filter) !== null && this.#rows.length < had + 50);
  }

  /** Which rows are in view, of those that are shown. */
  look(from: number, to: number): void {
    this.#view = [from, to];
    if (to >= this.#rows.length - 30) void this.more();
  }

  hear(events: Event[]): void {
    for (const event of events) {
      const key = this.source.touched(event);
      if (key === null) continue;
      if (this.source.removed(event)) this.#leave(key);
      else this.#touched.add(key);
    }
    if (this.#touched.size > 0) this.#soon();
  }

  #drifted(): void {
    for (const row of this.#rows.slice(...this.#view)) if (this.source.drifts(row)) this.#touched.add(this.source.key(row));
    if (this.#touched.size > 0) this.#soon();
  }

  /** Whether it could be read; `anew`: with nothing of what was there. */
  async #read(before: number, anew = false): Promise<boolean> {
    this.#reading = true;
    this.#show();
    try {
      const page = await this.source.page(this.filter, before, this.source.scans(this.filter) ?? PAGE);
      if (this.#closed || (before !== NEWEST && before !== this.#next)) return false; // it is of what was there before
      const last = page.rows.at(-1);
      const reached = last === undefined ? 0 : this.source.place(last);
      const [newest] = this.#rows;
      const apart = before === NEWEST && newest !== undefined && page.next !== null && this.source.place(newest) < reached;
      if (anew || apart) this.#rows = []; // rows between the page and what was there are not known
      if (before !== NEWEST || this.#rows.length === 0) this.#next = page.next;
      this.#join(page.rows);
      this.#reading = false;
      this.#show();
      return true;
    } catch (problem) {
      this.#reading = false;
      this.#show(problem);
      return false;
    }
  }

  #soon(): void {
    this.#timer ??= setTimeout(() => {
      this.#timer = undefined;
      if (!this.#closed) void this.#refresh();
    }, PACE);
  }

  async #refresh(): Promise<void> {
    const known = new Map(this.#rows.map((row, index) => [this.source.key(row), index]));
    const unknown = [...this.#touched].filter((key) => !known.has(key));
    if (unknown.length > MANY) {
      if (!(await this.#read(NEWEST, !this.source.whole(this.filter)))) return;
      for (const key of unknown) this.#touched.delete(key);
    }
    const [from, to] = this.#view;
    const touched = [...this.#touched];
    const near = touched.filter((key) => {
      const index = known.get(key) ?? from;
      return index >= from && index <= to;
    });
    const batch = [...new Set([...near, ...touched])].slice(0, BATCH); // no sorting: a hundred thousand may be touched at once
    if (batch.length === 0) return;
    for (const key of batch) this.#touched.delete(key);
    try {
      const rows = await this.source.some(batch);
      if (this.#closed) return;
      const there = new Set(rows.map((row) => this.source.key(row)));
      for (const key of batch) if (!there.has(key)) this.#leave(key);
      this.#join(rows);
      this.#show();
    } catch (problem) {
      // Who could not be asked is asked again, after the next event or with the next connection.
      const away = problem instanceof ContactLost || (problem instanceof Refused && problem.word === "unavailable");
      if (away) for (const key of batch) this.#touched.add(key);
      return this.#show(problem);
    }
    if (this.#touched.size > 0) this.#soon();
  }

  #leave(key: string): void {
    this.#touched.delete(key);
    const rows = this.#rows.filter((row) => this.source.key(row) !== key);
    if (rows.length === this.#rows.length) return;
    this.#rows = rows;
    this.#show();
  }

  /** Put rows at their places, in the stead of what was known of them; those that do not fit leave. */
  #join(rows: Row[]): void {
    const { key, place, fits } = this.source;
    const fresh = new Map(rows.map((row) => [key(row), row]));
    const stay = this.#rows.filter((row) => !fresh.has(key(row)));
    const beyond = (row: Row) => this.#next !== null && place(row) < this.#next;
    const joined = [...fresh.values()].filter((row) => fits(row, this.filter) && !beyond(row));
    this.#rows = joined.length === 0 ? stay : [...stay, ...joined].sort((a, b) => place(b) - place(a));
  }

  #listed(): Listed<Row> {
    return { rows: this.#rows, more: this.#next !== null, reading: this.#reading };
  }

  /** `problem`: why what is shown may be old, unless the page says so already. */
  #show(problem: unknown = null): void {
    const said = problem === null || problem instanceof ContactLost ? null : (problem as Error).message;
    if (!this.#closed) put(this.key, { value: this.#listed(), problem: said });
  }
}
