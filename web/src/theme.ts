// Light, dark, or as the system has it.
import { current, update, type State } from "./store";

const KEY = "polpod.theme";
const NEXT = { auto: "light", light: "dark", dark: "auto" } as const;

export function restoreTheme(): void {
  const kept = localStorage.getItem(KEY);
  if (kept === "light" || kept === "dark") set(kept);
}

export function switchTheme(): void {
  const theme = NEXT[current().theme];
  localStorage.setItem(KEY, theme);
  set(theme);
}

function set(theme: State["theme"]): void {
  document.documentElement.dataset["theme"] = theme;
  update({ theme });
}
