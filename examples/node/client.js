// A client of Raven with grpc-js. The contract is read at run time; nothing is generated.
//
//     npm ci
//     node client.js [host:port] [events]
//
// It lists the topics, subscribes to trades, adds quotes, removes the trades; after each answer it prints `events` events. When
// the connection is lost or the server restarts, stream.js comes back, and nothing is missing or printed twice.
"use strict";

const { promisify } = require("node:util");
const grpc = require("@grpc/grpc-js");
const { IMAGE, Stream, raven, topicName } = require("./stream");

// What an event is, and what it says.
function describe(event) {
  if (event.gap) return ["gap", event.gap.cause]; // events of this topic that will not come
  if (event.status) return ["status", event.status.state]; // how good the topic's data is from here on
  const what = event.flags & IMAGE ? "image" : "event"; // an image is the latest state, not news
  if (event.trade) return [what, `${event.trade.price} ${event.trade.size}`];
  if (event.quote) return [what, `${event.quote.bidPrice} ${event.quote.askPrice}`];
  return [what, event.payload];
}

// An event that the server made of several, because this client did not read fast enough, has the numbers of them all.
const numbers = ({ firstSequence, sequence }) => (firstSequence === "0" ? sequence : `${firstSequence}-${sequence}`);

function showControl({ welcome, subscribed, unsubscribed, draining, goodbye }) {
  if (welcome) console.log("welcome", welcome.clientId);
  for (const { id, accepted, topics, field, error, recovered } of subscribed?.results ?? [])
    console.log("subscribed", id, accepted ? `${topics} topics${recovered ? ", recovered" : ""}` : `refused: ${field}: ${error}`);
  if (unsubscribed) console.log("unsubscribed", ...unsubscribed.removedIds);
  if (draining) console.log("draining", draining.deadlineMs); // the server is about to go
  if (goodbye) console.log("goodbye", goodbye.reason, goodbye.text);
}

// Print what comes, until a request was answered and `count` events have come behind the answer; false if the stream was stopped.
async function show(messages, count) {
  let answered = false;
  while (count > 0) {
    const { value: message, done } = await messages.next();
    if (done) return false;
    showControl(message);
    if (message.subscribed || message.unsubscribed) answered = true;
    for (const event of message.events) {
      const [what, text] = describe(event);
      console.log(what, topicName(event.topic), numbers(event), text);
      if (answered && what === "event") count -= 1;
    }
  }
  return true;
}

async function main(target = "localhost:50051", events = "10") {
  const client = new raven.v1.MarketDataService(target, grpc.credentials.createInsecure());
  const listTopics = promisify(client.listTopics).bind(client);
  for (const { topic, status } of (await listTopics({})).topics) console.log("topic", topicName(topic), status.state);
  client.close();

  const stream = new Stream(target, "example-node", {
    onLost: (reason, pauseMs) => console.log("lost", reason, `again in ${pauseMs} ms`),
    onHole: (topic, what) => console.log("hole", topicName(topic), what), // as bad as a gap, and not told by the server
  });
  process.once("SIGINT", () => stream.stop());
  const messages = stream.messages();
  const steps = [
    () => stream.subscribe("trades", { venue: "sim", symbol: "*", kinds: ["KIND_TRADE"] }),
    () => stream.subscribe("quotes", { venue: "sim", symbol: "*", kinds: ["KIND_QUOTE"] }),
    () => stream.unsubscribe("trades"),
  ];
  for (const step of steps) {
    step();
    if (!(await show(messages, Number(events)))) return console.log("stopped");
  }
  await messages.return();
}

main(...process.argv.slice(2)).catch((error) => {
  console.error(error.message);
  process.exitCode = 1;
});
