// How numbers and times read.

const UNITS: readonly [number, string, number, string][] = [
  [86400, "d", 3600, "h"],
  [3600, "h", 60, "m"],
  [60, "m", 1, "s"],
];

/** As `polpoctl` has it: `0.3s`, `45s`, `1m02s`, `3d04h`. */
export function duration(seconds: number): string {
  if (seconds < 10) return `${seconds.toFixed(1)}s`;
  for (const [length, unit, less, lesser] of UNITS) {
    if (seconds >= length) {
      return `${Math.floor(seconds / length)}${unit}${String(Math.floor((seconds % length) / less)).padStart(2, "0")}${lesser}`;
    }
  }
  return `${Math.floor(seconds)}s`;
}

export function bytes(count: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let unit = 0;
  while (count >= 1024 && unit < units.length - 1) {
    count /= 1024;
    unit++;
  }
  return `${Number(count.toPrecision(4))} ${units[unit]}`;
}

export function whole(count: number): string {
  return count.toLocaleString("en").replaceAll(",", "\u202f");
}

export function seconds(from: string, to: string | null): number {
  return Math.max(0, ((to === null ? Date.now() : Date.parse(to)) - Date.parse(from)) / 1000);
}

/** In the time zone of who reads; with its day, since a page stays open over midnight. */
export function moment(at: string): string {
  const date = new Date(at);
  const pad = (part: number) => String(part).padStart(2, "0");
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day} ${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

export function words(name: string): string {
  return name.replaceAll("_", " ");
}

/** What is executed, as a shell would want it, so that it can be copied. */
export function commandLine(spec: { command: string[] | null; shell: string | null }): string {
  return spec.command?.map(quoted).join(" ") ?? spec.shell ?? "";
}

function quoted(word: string): string {
  return /^[\w@%+=:,./-]+$/.test(word) ? word : `'${word.replaceAll("'", `'\\''`)}'`;
}
