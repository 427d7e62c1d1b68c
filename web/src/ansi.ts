// Text as a terminal would colour it: SGR sequences become styles, every other control sequence is left out.

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

/** CSI sequences (1: parameters, 2: final byte), OSC up to its end, and two-byte escapes. */
const SEQUENCE = /\x1b(?:\[([0-9;:?<=>]*)[ -/]*([@-~])|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-Z\\^_]|[()][A-Za-z0-9])/g;
const CONTROLS = /[\x00-\x08\x0b-\x1f\x7f]/g;

/** The pieces of a line that begins in `style`, and the style in which it ends. */
export function pieces(line: string, style: Style): [Piece[], Style] {
  const drawn = line.replace(/\r+$/, "");
  line = drawn.slice(drawn.lastIndexOf("\r") + 1); // what a carriage return let be written over
  const found: Piece[] = [];
  const add = (text: string) => {
    const visible = text.replace(CONTROLS, "");
    if (visible) found.push({ text: visible, style });
  };
  let at = 0;
  for (const match of line.matchAll(SEQUENCE)) {
    add(line.slice(at, match.index));
    at = match.index + match[0].length;
    if (match[2] === "m") style = styled(style, match[1] ?? "");
  }
  add(line.slice(at));
  return [found, style];
}

function styled(before: Style, parameters: string): Style {
  let style: Style = { ...before };
  const codes = parameters.split(/[;:]/).map(Number);
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
    else if (code === 38 || code === 48) {
      const [colour, read] = extended(codes.slice(at + 1));
      if (colour !== undefined) style[code === 38 ? "fg" : "bg"] = colour;
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
