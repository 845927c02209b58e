import { connect, headers, Match, type Msg, type NatsConnection } from "@nats-io/transport-node";

const CONCURRENCY = 50; // attempts at a time; a further one is answered busy
const LONGEST_TIMER_MS = 2 ** 31 - 1; // Node takes more for 1

export type Result = Uint8Array | string;
/** Does the work of one type; what it returns is the result, what it throws is the error that is answered. */
export type Handler = (attempt: Attempt) => Result | Promise<Result>;

/** An error that says under which header it is answered; others are AJ-Error. */
export class Say extends Error {
  constructor(readonly header: string, text: string, readonly retryAfterMs = "") {
    super(text);
  }
}

/** One run of a task. The signal is aborted at the deadline, and when the attempt is over. */
export class Attempt {
  readonly task: { id: string; payload?: string | null; deadline?: string };
  readonly payload: Buffer;
  private readonly stopping = new AbortController();
  readonly signal = this.stopping.signal;
  private timer?: NodeJS.Timeout;

  constructor(private readonly nc: NatsConnection, private readonly request: Msg) {
    const version = this.header("AJ-Protocol") || "1";
    if (version !== "1") throw new Say("AJ-Busy", `AJ-Protocol ${version} is not known here`);
    this.task = JSON.parse(request.string());
    if (typeof this.task?.id !== "string") throw new Error("the request is no task: it has no id");
    this.payload = Buffer.from(this.task.payload ?? "", "base64");
  }

  /** Looks a name up without case; a blank value counts as absent. */
  header(name: string): string {
    return this.request.headers?.values(name, Match.IgnoreCase).find((value) => value.trim())?.trim() ?? "";
  }

  /** Tells how far it is; it is a beat, too. */
  progress(percent: number, message: string): void {
    this.beat(JSON.stringify({ percent, message }));
  }

  /** Resolves with the handler's result, or rejects at the deadline; beats meanwhile. */
  async outcome(work: Promise<Result>): Promise<Result> {
    const stopped = new Promise<never>((_, reject) => {
      this.signal.addEventListener("abort", () => reject(this.signal.reason));
    });
    const beats = setInterval(() => this.beat(""), Number(this.header("AJ-Heartbeat-Ms") || 1_000) / 2);
    this.limit(Infinity);
    try {
      return await Promise.race([work, stopped]);
    } finally {
      this.stopping.abort(); // no beat from here on
      clearTimeout(this.timer);
      clearInterval(beats);
    }
  }

  private beat(body: string): void {
    const subject = this.header("AJ-Heartbeat-Subject");
    if (this.signal.aborted || !subject) return;
    this.nc.publish(subject, body);
    this.limit(this.task.deadline ? Date.parse(this.task.deadline) - Date.now() - 100 : Infinity);
  }

  /** Gives it the whole time from now on, but not more than `most` milliseconds. */
  private limit(most: number): void {
    const byClock = Date.parse(this.header("AJ-Handler-Deadline")) - Date.now(); // where no time left is given
    const given = Number(this.header("AJ-Timeout-Ms")) || byClock || 30_000;
    const left = Math.min(given - Math.min(given / 10, 500), most, LONGEST_TIMER_MS); // room for the reply's way
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.stopping.abort(new Error("not done by the deadline")), left);
  }
}

/** Answers <prefix>.<family>:<name> for each handler until SIGTERM, then finishes what runs. */
export async function serve(prefix: string, family: string, handlers: Record<string, Handler>): Promise<void> {
  const ending = new Promise((resolve) => ["SIGTERM", "SIGINT"].forEach((name) => process.once(name, resolve)));
  const servers = (process.env.NATS_URL ?? "nats://127.0.0.1:4222").split(",");
  const { username: user, password: pass } = new URL(servers[0]!); // the client does not look for them there
  const forEver = { waitOnFirstConnect: true, maxReconnectAttempts: -1, reconnectTimeWait: 250 };
  const nc = await connect({ servers, user, pass, name: "polyglot-typescript", ...forEver });
  void nc.closed().then((error) => error && Promise.reject(error)); // for good: ends the process
  const running = new Set<Promise<unknown>>();

  async function answer(request: Msg, handler: Handler): Promise<void> {
    try {
      const attempt = new Attempt(nc, request);
      if (running.size >= CONCURRENCY) throw new Say("AJ-Busy", `${CONCURRENCY} attempts are running`);
      const work = (async () => handler(attempt))();
      const ended = work.catch(() => undefined).finally(() => running.delete(ended));
      running.add(ended); // a handler that does not look at its signal keeps its place
      const result = await attempt.outcome(work);
      const limit = nc.info?.max_payload ?? Infinity;
      const size = Buffer.byteLength(result);
      if (size > limit) throw new Say("AJ-Terminate", `result of ${size} bytes exceeds ${limit}`);
      request.respond(result);
    } catch (error) {
      request.respond("", { headers: said(error) });
    }
  }

  const subscriptions = Object.entries(handlers).map(([name, handler]) =>
    nc.subscribe(`${prefix}.${family}:${name}`, {
      queue: "ajc",
      callback: (refused, request) => void (refused ? console.error(refused) : answer(request, handler)),
    }),
  );
  await ending;
  await Promise.all(subscriptions.map((one) => one.drain())); // leaves the queue group first
  while (running.size) await Promise.all(running);
  await nc.drain();
}

function said(error: unknown) {
  const found = headers();
  const line = (error instanceof Error ? error.message : String(error)).replace(/\s+/g, " ").trim() || "no text";
  const text = new TextDecoder().decode(Buffer.from(line).subarray(0, 4096), { stream: true }); // no half character
  found.set(error instanceof Say ? error.header : "AJ-Error", text);
  if (error instanceof Say && error.retryAfterMs) found.set("AJ-Retry-After-Ms", error.retryAfterMs);
  return found;
}
