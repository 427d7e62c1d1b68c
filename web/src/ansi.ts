// Text as a terminal would colour it: SGR sequences become styles, every other control sequence is left out, and what else
// cannot be seen is shown escaped.  Whatever a job writes, a line costs no more than its first MOST characters.
import { visible } from "./visible";

export interface Style {
  fg?: string;
  bg?: string;
  bold?: true;
  dim?: true;
  italic?: true;
  underline?: true;
  inverse?: true;
}
export interface Piece {
  text: string;
  style: Style;
}

/** CSI sequences (1: parameters, 2: final byte); OSC, DCS and their like up to their end; other escapes. */
const SEQUENCE = /\x1b(?:\[([0-?]*)[ -/]*([@-~])|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])/g;
/** Characters of a line that are looked at. */
const MOST = 2 ** 16;

/** The pieces of a line that begins in `style`, and the style in which it ends. */
export function pieces(line: string, style: Style): [Piece[], Style] {
  const drawn = line.slice(...stays(line));
  line = drawn.slice(0, MOST);
  const found: Piece[] = [];
  const add = (text: string) => {
    if (text) found.push({ text: visible(text), style });
  };
  let at = 0;
  for (const match of line.matchAll(SEQUENCE)) {
    add(line.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] === "m") style = styled(style, match[1] ?? "");
  }
  add(line.slice(at));
  if (drawn.length > MOST) add(" …");
  return [found, style];
}

/** Of a line that is not ended yet, what its end may still let be seen. */
export function begun(line: string): string {
  return line.slice(stays(line)[0]).slice(0, MOST + 1);
}

/** What is left of a line in which carriage returns let things be written over. */
function stays(line: string): [number, number] {
  let end = line.length;
  while (line[end - 1] === "\r") end--;
  return [end === 0 ? 0 : line.lastIndexOf("\r", end - 1) + 1, end];
}

function styled(before: Style, parameters: string): Style {
  if (/[<=>?]/.test(parameters)) return before; // a terminal's own matter
  let style: Style = { ...before };
  const plain = parameters
    .replace(/(^|;)4:(\d)/g, (_, start: string, kind: string) => start + (kind === "0" ? "24" : "4")) // underlined in some way
    .replace(/([345]8):2:\d*:(\d+:\d+:\d+)/g, "$1:2:$2"); // a colour with its space
  const codes = plain.split(/[;:]/).map(Number);
  for (let at = 0; at < codes.length; at++) {
    const code = codes[at] ?? 0;
    if (code === 0) style = {};
    else if (code === 1) style.bold = true;
    else if (code === 2) style.dim = true;
    else if (code === 3) style.italic = true;
    else if (code === 4) style.underline = true;
    else if (code === 7) style.inverse = true;
    else if (code === 22) delete style.bold, delete style.dim;
    else if (code === 23) delete style.italic;
    else if (code === 24) delete style.underline;
    else if (code === 27) delete style.inverse;
    else if (code >= 30 && code <= 37) style.fg = named(code - 30);
    else if (code >= 90 && code <= 97) style.fg = named(code - 82);
    else if (code >= 40 && code <= 47) style.bg = named(code - 40);
    else if (code >= 100 && code <= 107) style.bg = named(code - 92);
    else if (code === 39) delete style.fg;
    else if (code === 49) delete style.bg;
    else if (code === 38 || code === 48 || code === 58) {
      const [colour, read] = extended(codes.slice(at + 1, at + 5));
      if (colour !== undefined && code !== 58) style[code === 38 ? "fg" : "bg"] = colour;
      at += read;
    }
  }
  return style;
}

/** One of the sixteen, which the style sheet has for light and dark. */
function named(index: number): string {
  return `var(--ansi-${index})`;
}

function extended(codes: number[]): [string | undefined, number] {
  const byte = (value: number | undefined) => Math.min(255, Math.max(0, Math.trunc(value || 0)));
  if (codes[0] === 5) return [indexed(byte(codes[1])), 2];
  if (codes[0] === 2) return [`rgb(${byte(codes[1])} ${byte(codes[2])} ${byte(codes[3])})`, 4];
  return [undefined, 1];
}

function indexed(index: number): string {
  if (index < 16) return named(index);
  if (index >= 232) {
    const grey = (index - 232) * 10 + 8;
    return `rgb(${grey} ${grey} ${grey})`;
  }
  const level = (n: number) => (n === 0 ? 0 : n * 40 + 55);
  const cube = index - 16;
  return `rgb(${level(Math.floor(cube / 36))} ${level(Math.floor(cube / 6) % 6)} ${level(cube % 6)})`;
}
