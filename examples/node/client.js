// A client of Raven with grpc-js. The contract is read at run time; nothing is generated.
//
//     npm ci
//     node client.js [host:port] [events]
//
// It lists the topics, subscribes to trades, adds quotes, removes the trades; after each answer it prints `events` events.
"use strict";

const path = require("node:path");
const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const { loadSync } = require("@grpc/proto-loader");

const CONTRACT = path.join(__dirname, "../../protos/raven/v1/raven.proto");
// 64-bit numbers as text: a JavaScript number holds 53 bits.
const { raven } = grpc.loadPackageDefinition(loadSync(CONTRACT, { longs: String, enums: String, defaults: true, oneofs: true }));
const FLAG_IMAGE = 1; // EVENT_FLAG_IMAGE

const topicName = ({ venue, symbol, kind, variant }) => [venue, symbol, kind, variant].filter(Boolean).join("/");

// What an event is, and what it says.
function describe(event) {
  if (event.gap) return ["gap", event.gap.cause]; // events of this topic that will not come
  if (event.status) return ["status", event.status.state]; // how good the topic's data is from here on
  const what = event.flags & FLAG_IMAGE ? "image" : "event"; // an image is the latest state, not news
  if (event.trade) return [what, `${event.trade.price} ${event.trade.size}`];
  if (event.quote) return [what, `${event.quote.bidPrice} ${event.quote.askPrice}`];
  return [what, event.payload];
}

function showControl({ welcome, subscribed, unsubscribed, draining, goodbye }) {
  if (welcome) console.log("welcome", welcome.clientId);
  for (const { id, accepted, topics, field, error } of subscribed?.results ?? [])
    console.log("subscribed", id, accepted ? `${topics} topics` : `refused: ${field}: ${error}`);
  if (unsubscribed) console.log("unsubscribed", ...unsubscribed.removedIds);
  if (draining) console.log("draining", draining.deadlineMs); // the server is about to go
  if (goodbye) console.log("goodbye", goodbye.reason, goodbye.text);
}

// Print what comes, until a request was answered and `count` events have come behind the answer.
async function show(messages, count) {
  let answered = false;
  while (count > 0) {
    const { value: message, done } = await messages.next();
    if (done) throw new Error("the server ended the stream");
    showControl(message);
    if (message.subscribed || message.unsubscribed) answered = true;
    for (const event of message.events) {
      const [what, text] = describe(event);
      console.log(what, topicName(event.topic), event.sequence, text);
      if (answered && what === "event") count -= 1;
    }
  }
}

const subscribe = (id, kind) => ({
  subscribe: { subscriptions: [{ id, selector: { venue: "sim", symbol: "*", kinds: [kind] } }] },
});

async function main(target = "localhost:50051", events = "10") {
  const client = new raven.v1.MarketDataService(target, grpc.credentials.createInsecure());
  const listTopics = promisify(client.listTopics).bind(client);
  for (const { topic, status } of (await listTopics({})).topics) console.log("topic", topicName(topic), status.state);

  const stream = client.streamMarketData();
  process.once("SIGINT", () => stream.cancel());
  const messages = stream[Symbol.asyncIterator]();
  stream.write({ hello: { clientId: "example-node" } });
  stream.write(subscribe("trades", "KIND_TRADE"));
  await show(messages, Number(events));
  stream.write(subscribe("quotes", "KIND_QUOTE"));
  await show(messages, Number(events));
  stream.write({ unsubscribe: { ids: ["trades"] } });
  await show(messages, Number(events));
  await messages.return();
  stream.cancel(); // closing the client alone waits for the call to end
  client.close();
}

main(...process.argv.slice(2)).catch((error) => {
  if (error.code === grpc.status.CANCELLED) return console.log("stopped");
  console.error(error.message);
  process.exitCode = 1;
});
