// What narrows a table: chips of which any number is chosen, and a search that waits until one has typed.
import { useEffect, useRef, useState } from "preact/hooks";
import { whole } from "../format";
import { Status } from "./status";

export function Chips<S extends string>(props: {
  label: string;
  all: readonly S[];
  counts: Partial<Record<S, number>>;
  chosen: S[];
  choose(chosen: S[]): void;
}) {
  const toggle = (one: S) =>
    props.choose(props.chosen.includes(one) ? props.chosen.filter((other) => other !== one) : [...props.chosen, one]);
  return (
    <div class="chips" role="group" aria-label={props.label}>
      {props.all.map((one) => (
        <button type="button" key={one} aria-pressed={props.chosen.includes(one)} onClick={() => toggle(one)}>
          <Status of={one} /> <span class="number">{whole(props.counts[one] ?? 0)}</span>
        </button>
      ))}
    </div>
  );
}

const PAUSE = 250;

export function Search(props: { label: string; value: string; change(text: string): void }) {
  const [text, setText] = useState(props.value);
  const due = useRef<ReturnType<typeof setTimeout>>(undefined);
  useEffect(() => () => clearTimeout(due.current), []);
  return (
    <input
      type="search"
      aria-label={props.label}
      placeholder={`${props.label}  ( / )`}
      value={text}
      onInput={(event) => {
        const typed = event.currentTarget.value;
        setText(typed);
        clearTimeout(due.current);
        due.current = setTimeout(() => props.change(typed.trim()), PAUSE);
      }}
    />
  );
}
