// Talking to the server: JSON calls with the API's error envelope, and server-sent events read from a fetch body.

/** An error the server described, or the lack of a server (`code` is then `unreachable`). */
export class ApiError extends Error {
  constructor({ code, type, message, param, requestId, status, retryAfterS }) {
    super(message);
    this.name = "ApiError";
    Object.assign(this, { code, type, param, requestId, status, retryAfterS });
  }
}

export const isAbort = (error) => error?.name === "AbortError";

async function call(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw unreachable();
  }
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const told = body?.error ?? {};
  throw new ApiError({
    code: told.code ?? `http_${response.status}`,
    type: told.type ?? "internal",
    message: told.message ?? `the server answered ${response.status}`,
    param: told.param ?? null,
    requestId: told.request_id ?? response.headers.get("x-request-id"),
    status: response.status,
    retryAfterS: Number(response.headers.get("retry-after")) || null,
  });
}

const unreachable = () =>
  new ApiError({
    code: "unreachable",
    type: "network",
    message: navigator.onLine ? "The server cannot be reached." : "This device is offline.",
    status: 0,
  });

const post = (path, body, accept, signal, headers = {}) =>
  call(path, {
    method: "POST",
    headers: { "content-type": "application/json", accept, ...headers },
    body: JSON.stringify(body),
    signal,
  });

/** `POST path`; the parsed JSON, or an {@link ApiError}. */
export async function postJson(path, body, signal) {
  const response = await post(path, body, "application/json", signal);
  return readBody(() => response.json());
}

/** `GET path`; the parsed JSON, or an {@link ApiError}. */
export async function getJson(path, signal) {
  const response = await call(path, { headers: { accept: "application/json" }, signal });
  return readBody(() => response.json());
}

/** `GET path`, also when the status says the service is not ready: `/readyz` answers 503 with the same body. */
export async function getStatus(path) {
  const response = await fetch(path, { headers: { accept: "application/json" } });
  return response.json();
}

/** Pauses before a broken stream is asked for again; an event that arrives starts them anew. */
const PAUSES_MS = [500, 2000, 5000];

/**
 * `POST path` and yields `{ event, data, id }` for every server-sent event; `data` is parsed JSON.
 *
 * A stream that breaks off is asked for again from the last event on, until `isLast` says that one was the last.
 */
export async function* postForEvents(path, body, signal, isLast) {
  let last = "";
  for (let broken = 0; ; broken += 1) {
    try {
      for await (const event of eventsOf(await post(path, body, "text/event-stream", signal, last && { "last-event-id": last }))) {
        last = event.id || last;
        broken = 0;
        yield event;
        if (isLast(event)) return;
      }
    } catch (error) {
      if (error.code !== "unreachable" || last === "" || broken >= PAUSES_MS.length) throw error;
    }
    if (last === "" || broken >= PAUSES_MS.length) return;
    await pause(PAUSES_MS[broken], signal);
  }
}

const pause = (ms, signal) =>
  new Promise((resolve, reject) => {
    const stopped = () => reject(signal.reason);
    setTimeout(() => {
      signal.removeEventListener("abort", stopped);
      resolve();
    }, ms);
    signal.addEventListener("abort", stopped, { once: true });
  });

async function* eventsOf(response) {
  const parser = new EventStreamParser();
  const decoder = new TextDecoder();
  const reader = response.body.getReader();
  try {
    for (;;) {
      const { done, value } = await readBody(() => reader.read());
      if (done) return;
      for (const raw of parser.push(decoder.decode(value, { stream: true }))) {
        yield { event: raw.event, id: raw.id, data: parseData(raw.data) };
      }
    }
  } finally {
    reader.cancel().catch(() => {}); // the stream may have failed already; there is nothing left to release
  }
}

async function readBody(read) {
  try {
    return await read();
  } catch (error) {
    if (isAbort(error)) throw error;
    throw error instanceof SyntaxError
      ? new ApiError({ code: "bad_response", type: "internal", message: "The server's answer is not JSON.", status: 0 })
      : unreachable();
  }
}

function parseData(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null; // the caller skips an event it cannot read
  }
}

/**
 * The line protocol of server-sent events (WHATWG HTML, section 9.2.6), for chunks cut anywhere.
 *
 * Lines end with LF, CR or CR LF; a CR at the end of a chunk may be half of a CR LF. Comments keep the connection
 * alive and are dropped; an event without data is none.
 */
export class EventStreamParser {
  #rest = "";
  #event = "";
  #data = [];
  #id = "";
  #first = true;
  #skipLineFeed = false;

  /** Takes the next piece of text and returns the events it completes. */
  push(chunk) {
    let text = chunk;
    if (this.#first && text !== "") {
      this.#first = false;
      if (text.startsWith("\uFEFF")) text = text.slice(1);
    }
    if (this.#skipLineFeed && text !== "") {
      this.#skipLineFeed = false;
      if (text.startsWith("\n")) text = text.slice(1);
    }
    this.#skipLineFeed ||= text.endsWith("\r");
    const lines = (this.#rest + text).split(/\r\n|\r|\n/);
    this.#rest = lines.pop();
    return lines.map((line) => this.#line(line)).filter((event) => event !== null);
  }

  #line(line) {
    if (line === "") return this.#dispatch();
    const colon = line.indexOf(":");
    if (colon === 0) return null;
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") this.#event = value;
    else if (field === "data") this.#data.push(value);
    else if (field === "id" && !value.includes("\0")) this.#id = value;
    return null;
  }

  #dispatch() {
    const event = { event: this.#event || "message", data: this.#data.join("\n"), id: this.#id };
    const empty = this.#data.length === 0;
    this.#event = "";
    this.#data = [];
    return empty ? null : event;
  }
}
