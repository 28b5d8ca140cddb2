// A stream of Raven that loses nothing: when its connection ends, it comes back and goes on where it was.
//
//     const stream = new Stream("localhost:50051", "my-client-id");
//     stream.subscribe("trades", { venue: "sim", symbol: "*", kinds: ["KIND_TRADE"] });
//     for await (const message of stream.messages()) ...
//
// What it does is what docs/clients.md asks of a client: events that came before are left out of the messages, and a hole that
// the server has not told is told by `onHole`.
"use strict";

const path = require("node:path");
const { setTimeout: sleep } = require("node:timers/promises");
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const CONTRACT = path.join(__dirname, "../../protos/raven/v1/raven.proto");
// 64-bit numbers as text: a JavaScript number holds 53 bits.
const { raven } = grpc.loadPackageDefinition(loadSync(CONTRACT, { longs: String, enums: String, defaults: true, oneofs: true }));

const PAUSE_MS = 250, PAUSE_MAX_MS = 20_000; // a pause is random, up to a ceiling that doubles from one to the other ...
const STABLE_MS = 5_000; // ... and begins anew after a stream that lasted so long
const WELCOME_MS = 5_000; // the server's first word comes within so long
const HEARTBEATS_MISSED_MAX = 3; // a connection without a word for so many heartbeats is dead
const MOVE_MARGIN_MS = 500; // a server that drains is left at least so long before its deadline
const REFUSED_MS = 60_000; // what was taken once and is refused after a break is asked for again for so long
const POINTS_MAX = 2_000; // resume points in a request: it may have 256 KiB

const IMAGE = 1, LOCAL = 2; // EventFlag
const { INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, ABORTED, UNIMPLEMENTED } = grpc.status;
const FOR_GOOD = new Set([INVALID_ARGUMENT, UNAUTHENTICATED, PERMISSION_DENIED, ABORTED, UNIMPLEMENTED]);

class Ended extends Error {} // coming back makes no sense

const topicName = ({ venue, symbol, kind, variant }) => [venue, symbol, kind, variant].filter(Boolean).join("/");
const fits = (pattern, name) => (pattern.endsWith("*") ? name.startsWith(pattern.slice(0, -1)) : name === pattern);
const matches = ({ venue, symbol, kinds }, topic) =>
  fits(venue, topic.venue) && fits(symbol, topic.symbol) && kinds.includes(topic.kind);

class Stream {
  constructor(target, clientId, { credentials = grpc.credentials.createInsecure(), onLost = () => {}, onHole = () => {} } = {}) {
    Object.assign(this, { target, clientId, credentials, onLost, onHole });
    this.wanted = new Map(); // id -> { selector, accepted, covered: a bookmark came since }
    this.places = new Map(); // topic -> { topic, epoch, sequence, gap: one has come, and nothing behind it yet }
    this.bookmark = null; // stands behind everything that came before it
    this.stopped = new AbortController();
  }

  subscribe(id, selector) {
    this.wanted.set(id, { selector, accepted: false, covered: false });
    this.call?.write({ subscribe: { subscriptions: [this.subscription(id)] } });
  }

  unsubscribe(id) {
    this.wanted.delete(id);
    this.call?.write({ unsubscribe: { ids: [id] } });
  }

  stop() {
    this.stopped.abort();
    this.call?.cancel();
  }

  // All messages, of one connection after the other, until `stop`. Throws Ended, or the gRPC error after which it is over.
  async *messages() {
    for (let attempt = 0; !this.stopped.signal.aborted; attempt += 1) {
      const began = Date.now();
      this.retryAfterMs = 0;
      this.reason = "the server ended the stream";
      try {
        yield* this.connection();
      } catch (error) {
        if (error.code === undefined || FOR_GOOD.has(error.code)) throw error; // without a code it is none of gRPC
        if (error.code !== grpc.status.CANCELLED) this.reason = error.details;
      }
      if (this.stopped.signal.aborted) return;
      if (this.interval && Date.now() - began >= STABLE_MS) attempt = 0;
      const ceiling = Math.min(PAUSE_MS * 2 ** attempt, PAUSE_MAX_MS);
      const pause = Math.max(Math.random() * ceiling, this.retryAfterMs);
      this.onLost(this.reason, Math.round(pause));
      await sleep(pause, null, { signal: this.stopped.signal }).catch(() => {});
    }
  }

  // The messages of one connection. It has a channel of its own, so that the next one is made anew, at another server perhaps.
  async *connection() {
    const client = new raven.v1.MarketDataService(this.target, this.credentials, { "grpc.use_local_subchannel_pool": 1 });
    const call = (this.call = client.streamMarketData());
    call.on("error", () => {}); // whoever reads is told
    this.interval = 0;
    try {
      call.write({ hello: { clientId: this.clientId } });
      const subscriptions = [...this.wanted.keys()].map((id) => this.subscription(id));
      if (subscriptions.length) call.write({ subscribe: { subscriptions } });
      const incoming = call[Symbol.asyncIterator]();
      for (;;) {
        const limit = this.interval ? HEARTBEATS_MISSED_MAX * this.interval : WELCOME_MS;
        const silence = setTimeout(() => this.leave(`nothing came for ${limit} ms`), limit);
        const { value: message, done } = await incoming.next().finally(() => clearTimeout(silence));
        if (done) return;
        this.control(message);
        message.events = message.events.filter((event) => this.isNew(event));
        yield message;
        if (message.goodbye && !message.goodbye.reconnect) throw new Ended(`${message.goodbye.reason}: ${message.goodbye.text}`);
      }
    } finally {
      clearTimeout(this.moving);
      this.moving = this.call = undefined;
      call.cancel(); // closing the client alone waits for the call to end
      client.close();
    }
  }

  leave(reason) {
    this.reason = reason;
    this.call?.cancel();
  }

  // What a message says beside its events.
  control({ welcome, subscribed, unsubscribed, heartbeat, draining, goodbye }) {
    if (welcome) this.interval = welcome.heartbeatIntervalMs;
    for (const result of subscribed?.results ?? []) this.answered(result);
    if (unsubscribed) this.forget();
    this.mark((heartbeat ?? draining ?? goodbye)?.bookmark);
    if (goodbye) this.retryAfterMs = goodbye.retryAfterMs;
    if (draining && !this.moving) {
      const pause = Math.min(draining.retryAfterMs, Math.max(draining.deadlineMs - MOVE_MARGIN_MS, 0));
      this.moving = setTimeout(() => this.leave("the server is going away"), pause); // data goes on until then
    }
  }

  answered({ id, accepted, field, error }) {
    const one = this.wanted.get(id);
    if (accepted) this.refusedSince = undefined;
    if (accepted && one) one.accepted = true;
    if (accepted || !one) return;
    this.refusedSince ??= Date.now();
    if (!one.accepted || Date.now() - this.refusedSince > REFUSED_MS) throw new Ended(`${field}: ${error}`);
    this.leave(`refused for now: ${field}: ${error}`); // it has just started, and may not know its topics yet
  }

  mark(bookmark) {
    if (!bookmark?.length) return;
    this.bookmark = bookmark;
    for (const one of this.wanted.values()) one.covered ||= one.accepted;
  }

  // A topic that nobody asks for any more begins anew when it is asked for again.
  forget() {
    const selectors = [...this.wanted.values()].map(({ selector }) => selector);
    for (const [name, { topic }] of this.places) if (!selectors.some((one) => matches(one, topic))) this.places.delete(name);
  }

  // What to ask for: behind the bookmark if it covers this subscription, else behind the last event of each topic.
  subscription(id) {
    const { selector, covered } = this.wanted.get(id);
    if (this.bookmark && covered) return { id, selector, bookmark: this.bookmark };
    const places = [...this.places.values()].filter(({ topic }) => matches(selector, topic)).slice(0, POINTS_MAX);
    return { id, selector, resume: places.map(({ topic, epoch, sequence }) => ({ topic, epoch, sequence: `${sequence}` })) };
  }

  // Whether an event has not come before. Within an epoch the sequence of a topic goes up by one.
  isNew(event) {
    const name = topicName(event.topic), last = this.places.get(name);
    if (event.flags & LOCAL) { // for this client alone: it takes no sequence
      if (event.gap && last) last.gap = true;
      return true;
    }
    const sequence = BigInt(event.sequence), isImage = Boolean(event.flags & IMAGE), goesOn = event.epoch === last?.epoch;
    // Behind a gap the image as of the last sequence is what there is to go on from.
    if (goesOn && (sequence < last.sequence || (sequence === last.sequence && !(isImage && last.gap)))) return false;
    // A conflated event stands for all from firstSequence on; an image tells the state, not what led to it.
    const first = isImage ? sequence + 1n : BigInt(event.firstSequence) || sequence;
    if (last && !last.gap && !goesOn) this.onHole(event.topic, "a new epoch");
    if (last && !last.gap && goesOn && first > last.sequence + 1n)
      this.onHole(event.topic, `${last.sequence + 1n} to ${first - 1n}`);
    this.places.set(name, { topic: event.topic, epoch: event.epoch, sequence, gap: false });
    return true;
  }
}

module.exports = { Ended, IMAGE, Stream, raven, topicName };
