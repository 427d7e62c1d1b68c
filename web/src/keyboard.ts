// The keyboard: what a key does is a table; where one types, keys are text.
import { go } from "./router";

export const PLACES: readonly { key: string; page: string; title: string }[] = [
  { key: "t", page: "tasks", title: "Tasks" },
  { key: "r", page: "runs", title: "Runs" },
  { key: "q", page: "queues", title: "Queues" },
  { key: "m", page: "missions", title: "Missions" },
  { key: "a", page: "approvals", title: "Approvals" },
  { key: "s", page: "schedules", title: "Schedules" },
  { key: "h", page: "health", title: "Health" },
];

/** What the page that is shown does with keys: the table of it, if there is one, sets these. */
export const onPage: { step?: ((by: number) => void) | undefined; enter?: (() => void) | undefined } = {};

/** By how many rows keys go: letters everywhere, the others where nothing else is to be moved. */
const STEPS: Readonly<Record<string, number>> = {
  j: 1, k: -1, ArrowDown: 1, ArrowUp: -1, PageDown: 20, PageUp: -20, End: Infinity, Home: -Infinity,
};

let leading = false;

export function listenToKeys(): void {
  addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || event.defaultPrevented) return;
    const target = event.target as HTMLElement;
    if (target.matches("input:not([type=checkbox]), textarea, select")) {
      if (event.key === "Escape") target.blur();
      return;
    }
    if (pressed(event.key, target)) event.preventDefault();
  });
}

/** Opens or closes the dialog of keys.  Only the dialog itself knows whether it is open: its event of closing comes later. */
export function toggleHelp(): void {
  const help = document.querySelector<HTMLDialogElement>("#help");
  if (help?.open) help.close();
  else help?.showModal();
}

/** Whether the key meant something. */
function pressed(key: string, target: HTMLElement): boolean {
  const step = key.length === 1 || target.matches(".table, .rows, main, body") ? STEPS[key] : undefined;
  const place = leading ? PLACES.find((there) => there.key === key) : undefined;
  leading = !leading && key === "g";
  if (place) go(place.page);
  else if (key === "/") document.querySelector<HTMLInputElement>("input[type=search]")?.select();
  else if (key === "?") toggleHelp();
  else if (step && onPage.step) onPage.step(step);
  else if (key === "Enter" && onPage.enter && !target.matches("a, button, summary, input")) onPage.enter();
  else return false;
  if (key === "/") document.querySelector<HTMLInputElement>("input[type=search]")?.focus();
  return true;
}
