// Which page is shown: the part of the address behind `#`, so that any id is part of it and no server has to know pages.
import { update } from "./store";

export function path(...parts: string[]): string {
  return `#/${parts.map(encodeURIComponent).join("/")}`;
}

export function go(...parts: string[]): void {
  location.hash = path(...parts);
}

export function followAddress(): void {
  const follow = () => update({ path: location.hash.replace(/^#\/?/, "").split("/").filter(Boolean).map(decoded) });
  addEventListener("hashchange", follow);
  follow();
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // an address that somebody typed
  }
}
