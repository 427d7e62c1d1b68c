// What a person does: one call, never repeated by itself, with a word on how it ended.
import type { Method, Params } from "./methods";
import { call } from "./session";
import { current, update } from "./store";

let last = 0;

export function say(text: string, bad = false): void {
  const notice = { id: ++last, text, bad };
  update({ notices: [...current().notices, notice].slice(-4) });
  setTimeout(() => update({ notices: current().notices.filter((one) => one !== notice) }), bad ? 10_000 : 4_000);
}

/** Make the call and tell of it; whether it was done. */
export async function act<M extends Method>(done: string, method: M, params: Params<M>): Promise<boolean> {
  try {
    const result: unknown = await call(method, params);
    const refused = (result as { results?: { error?: { message: string } }[] } | null)?.results?.find((one) => one.error);
    if (refused?.error) throw new Error(refused.error.message);
  } catch (problem) {
    say((problem as Error).message, true);
    return false;
  }
  say(done);
  return true;
}
