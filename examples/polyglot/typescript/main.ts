// A responder for ajc-bridge. To make it yours: replace the handlers here, leave conform.ts out, keep responder.ts.
import { conform } from "./conform.js";
import { type Handler, Say, serve } from "./responder.js";

/** Shows what a handler looks like. Whatever else it throws is tried again, Say AJ-Terminate is not. */
const letter: Handler = (attempt) => {
  const { template, values } = JSON.parse(attempt.payload.toString()) as Letter;
  const escaped = (text: string) => text.replace(/[&<>"']/g, (one) => `&#${one.charCodeAt(0)};`);
  return template.replace(/{{\s*(\w+)\s*}}/g, (_, name: string) => {
    const value = values[name];
    if (value === undefined) throw new Say("AJ-Terminate", `the letter has no ${name}`);
    return escaped(String(value));
  });
};

interface Letter {
  template: string;
  values: Record<string, string | number>;
}

const { AJC_FAMILY = "conform", EXEC_PREFIX = "ajc.exec" } = process.env;
await serve(EXEC_PREFIX, AJC_FAMILY, { letter, ...conform });
