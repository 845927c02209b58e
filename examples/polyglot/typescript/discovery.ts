import { type Msg, nuid } from "@nats-io/transport-node";
import { Say } from "./responder.js";

/** Answers $SRV.PING, INFO and STATS: a NATS service (ADR-32), whose counts know when an attempt ends, and how. */
export class Service {
  private readonly who;
  private readonly started = new Date().toISOString();
  private readonly endpoints = new Map<string, { info: object; stats: Stats }>();

  constructor(name: string, version: string) {
    this.who = { name, id: nuid.next(), version, metadata: {} };
  }

  add(prefix: string, type: string, concurrency: number): string {
    const endpoint = { name: type.replaceAll(":", "-"), subject: `${prefix}.${type}`, queue_group: "ajc" };
    const metadata = { "ajc.type": type, "ajc.concurrency": String(concurrency), "ajc.protocol": "1" };
    const counts = { num_requests: 0, num_errors: 0, last_error: "", processing_time: 0, average_processing_time: 0 };
    this.endpoints.set(endpoint.subject, { info: { ...endpoint, metadata }, stats: { ...endpoint, ...counts } });
    return endpoint.subject;
  }

  count(subject: string, milliseconds: number, error: unknown): void {
    const stats = this.endpoints.get(subject)!.stats;
    stats.num_requests += 1;
    stats.processing_time += milliseconds * 1e6;
    stats.average_processing_time = Math.round(stats.processing_time / stats.num_requests);
    if (error && !(error instanceof Say && error.header === "AJ-Busy")) {
      stats.num_errors += 1;
      stats.last_error = String(error);
    }
  }

  answer(request: Msg): void {
    const [, verb, ...whom] = request.subject.split("."); // all, or those of a name, or one of an id
    if (whom.some((token, place) => token !== [this.who.name, this.who.id][place])) return;
    const all = [...this.endpoints.values()];
    const answers: Record<string, object> = {
      PING: {},
      INFO: { description: "", endpoints: all.map((one) => one.info) },
      STATS: { started: this.started, endpoints: all.map((one) => one.stats) },
    };
    const said = answers[verb ?? ""];
    const type = `io.nats.micro.v1.${verb?.toLowerCase()}_response`;
    if (said) request.respond(JSON.stringify({ ...this.who, type, ...said }));
  }
}

interface Stats {
  num_requests: number;
  num_errors: number;
  last_error: string;
  processing_time: number;
  average_processing_time: number;
}
