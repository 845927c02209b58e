import { setTimeout as sleep } from "node:timers/promises";
import { type Attempt, type Handler, Say } from "./responder.js";

const text = (attempt: Attempt) => attempt.payload.toString();

/** The scripted tasks of the conformance kit. */
export const conform: Record<string, Handler> = {
  echo: (attempt) => attempt.payload,
  fail: (attempt) => Promise.reject(new Error(text(attempt))),
  crash: (attempt) => {
    throw new TypeError(text(attempt));
  },
  terminate: (attempt) => Promise.reject(new Say("AJ-Terminate", text(attempt))),
  busy: (attempt) => Promise.reject(new Say("AJ-Busy", text(attempt))),
  later: (attempt) => Promise.reject(new Say("AJ-Error", "later", text(attempt))),
  trace: (attempt) => attempt.header("traceparent"),
  about: (attempt) => {
    const [id, type, queue] = ["AJ-Task-Id", "AJ-Task-Type", "AJ-Queue"].map((name) => attempt.header(name));
    const [tries, max_tries] = ["AJ-Try", "AJ-Max-Tries"].map((name) => Number(attempt.header(name)));
    return JSON.stringify({ id, type, queue, try: tries, max_tries });
  },
  slow: async (attempt) => {
    await sleep(Number(text(attempt)), undefined, { signal: attempt.signal }); // ends early when it is aborted
    return attempt.payload;
  },
  progress: (attempt) => {
    for (const quarter of [1, 2, 3, 4]) attempt.progress(25 * quarter, `quarter ${quarter} of 4`);
    return "done";
  },
};
