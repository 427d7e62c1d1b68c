// One connection to the daemon: JSON-RPC 2.0, a message a frame.  Nothing else in the dashboard knows of WebSockets.
import type { Method, Params, Result } from "./methods";

/** The daemon said no; `word` is the stable one of docs/protocol.md. */
export class Refused extends Error {
  constructor(
    message: string,
    readonly word: string,
  ) {
    super(message);
  }
}

/** The connection ended before the answer came: whether the daemon acted is not known. */
export class ContactLost extends Error {
  constructor() {
    super("contact with polpod was lost before it answered");
  }
}

interface Waiting {
  resolve(result: unknown): void;
  reject(problem: Error): void;
}
interface Message {
  id?: number;
  method?: string;
  params?: unknown;
  result?: unknown;
  error?: { message: string; data?: { type?: string } };
}

export class Connection {
  readonly #socket: WebSocket;
  readonly #waiting = new Map<number, Waiting>();
  #last = 0;

  constructor(
    url: string,
    protocols: string[],
    on: { open(): void; notified(method: string, params: unknown): void; closed(code: number): void },
  ) {
    this.#socket = new WebSocket(url, protocols);
    this.#socket.onopen = () => on.open();
    this.#socket.onmessage = (frame: MessageEvent<string>) => {
      const message = JSON.parse(frame.data) as Message;
      if (message.method !== undefined) on.notified(message.method, message.params);
      else this.#answered(message);
    };
    this.#socket.onclose = (end) => {
      this.#lost();
      on.closed(end.code);
    };
  }

  call<M extends Method>(method: M, params: Params<M>): Promise<Result<M>> {
    if (this.#socket.readyState !== WebSocket.OPEN) return Promise.reject(new ContactLost());
    const id = ++this.#last;
    this.#socket.send(JSON.stringify({ jsonrpc: "2.0", id, method, params }));
    return new Promise((resolve, reject) =>
      this.#waiting.set(id, { resolve: (result) => resolve(result as Result<M>), reject }),
    );
  }

  /** Who waits for an answer is told at once: where nobody is there any more, a browser takes a minute to close. */
  close(): void {
    this.#socket.close();
    this.#lost();
  }

  #lost(): void {
    for (const waiting of this.#waiting.values()) waiting.reject(new ContactLost());
    this.#waiting.clear();
  }

  #answered(message: Message): void {
    const waiting = this.#waiting.get(message.id ?? 0);
    this.#waiting.delete(message.id ?? 0);
    if (message.error) waiting?.reject(new Refused(message.error.message, message.error.data?.type ?? "refused"));
    else waiting?.resolve(message.result);
  }
}
