// What cannot be seen, or would turn text around, is shown escaped, as `polpoctl` does: in every text of the page, so that
// no title, label or command can be taken for another one.
import { options } from "preact";

/** What Python does not call printable, but for lines, tabs and the narrow space of our own numbers. */
const UNSEEN = /(?![ \n\t\u202f])[\p{C}\p{Z}]/gu;

export function visible(text: string): string {
  return text.replace(UNSEEN, escaped);
}

/** From now on, for all text that is drawn. */
export function showUnseen(): void {
  options.vnode = (node) => {
    const text = node as { type: unknown; props: unknown }; // for Preact, a text has no type and is its own properties
    if (!text.type && typeof text.props === "string") text.props = visible(text.props);
  };
}

/** As Python's `unicode_escape`. */
function escaped(character: string): string {
  if (character === "\r") return "\\r";
  const code = character.codePointAt(0) ?? 0;
  const [mark, length] = code < 0x100 ? ["x", 2] as const : code < 0x10000 ? ["u", 4] as const : ["U", 8] as const;
  return `\\${mark}${code.toString(16).padStart(length, "0")}`;
}
