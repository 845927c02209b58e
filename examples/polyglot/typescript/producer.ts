// Stores one task and queues it: producer TYPE [PAYLOAD [QUEUE [ID]]]. Again with the same ID: nothing is doubled.
import { connect, headers, nuid } from "@nats-io/transport-node";

const [type, text, queue = "DEFAULT", id = nuid.next()] = process.argv.slice(2);
if (!type) throw new Error("usage: producer TYPE [PAYLOAD [QUEUE [ID]]]");
const payload = text ? Buffer.from(text).toString("base64") : null;
let task = { id, type, queue, payload, max_tries: 10, state: "new", created: new Date().toISOString(), tries: 0 };

type Refusal = { err_code: number; description: string };
type Answer = { seq: number; error?: Refusal; message?: { seq: number; data: string } };

const nc = await connect({ servers: process.env.NATS_URL ?? "nats://127.0.0.1:4222" });

/** Sends the same again while no answer comes: the header keeps it single. */
async function ask(subject: string, body: object, name?: string, value = ""): Promise<Answer> {
  const once = headers();
  if (name) once.set(name, value);
  for (let tries = 0; ; tries += 1) {
    try {
      return (await nc.request(subject, JSON.stringify(body), { timeout: 5_000, headers: once })).json<Answer>();
    } catch (error) {
      console.error(subject, String(error));
      if (tries === 10) throw new Error(`${id} may be stored: run this again with the same ID`, { cause: error });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

const EXPECTED = "Nats-Expected-Last-Subject-Sequence";
const record = `CHORIA_AJ.T.${id}`;
// 1. The record, as the first of its ID.
let { seq, error } = await ask(record, task, EXPECTED, "0");
if (error?.err_code === 10071 || error?.err_code === 10164) {
  // there is one: an earlier run's, or somebody else's
  const { message } = await ask("$JS.API.STREAM.MSG.GET.CHORIA_AJ_TASKS", { last_by_subj: record });
  const found = JSON.parse(Buffer.from(message?.data ?? "", "base64").toString() || "{}");
  const same = found.state === "new" && found.type === type && found.queue === queue;
  if (!message || !same) throw new Error(`${id} exists already`);
  [seq, error, task] = [message.seq, undefined, found];
}
if (error) throw new Error(`${record} was refused: ${error.description}`);
// 2. The item, which names it.
({ error } = await ask(`CHORIA_AJ.Q.${queue}.${id}`, { kind: 0, job: id }, "Nats-Msg-Id", id));
if (error) {
  const last_err = `queue ${queue} refused it: ${error.description}`; // 10077: full
  await ask(record, { ...task, state: "queue_error", last_err }, EXPECTED, String(seq));
  throw new Error(last_err);
}
console.log(id);
await nc.close();
