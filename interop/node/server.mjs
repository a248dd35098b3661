// A Socket.IO server of a cluster, as its users have it: node server.mjs REDIS-ADDRESS ADAPTER [MODE]. It says in lines of
// JSON where it listens and what other servers tell it.
import { createServer } from "node:http";
import { Server } from "socket.io";
import { createClient } from "redis";
import { createAdapter, createShardedAdapter } from "@socket.io/redis-adapter";
import { createAdapter as createStreamsAdapter } from "@socket.io/redis-streams-adapter";

const [redis, adapter, subscriptionMode = "dynamic"] = process.argv.slice(2);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const pub = createClient({ url: `redis://${redis}` });
const sub = pub.duplicate();
for (const c of [pub, sub]) {
  c.on("error", (err) => console.error(err.message));
  await c.connect();
}
const json = { encode: (v) => JSON.stringify(v), decode: (b) => JSON.parse(b.toString()) };
const adapters = {
  classic: () => createAdapter(pub, sub),
  "classic-json": () => createAdapter(pub, sub, { parser: json }),
  sharded: () => createShardedAdapter(pub, sub, { subscriptionMode }),
  streams: () => createStreamsAdapter(pub),
};

const http = createServer();
const io = new Server(http, { adapter: adapters[adapter](), serveClient: false });

// settled waits for what the adapter has subscribed to by now: Redis answers in order.
let settlings = 0;
const settled = () => (adapter === "sharded" ? sub.sSubscribe(`settled-${settlings++}`, () => {}) : Promise.resolve());

for (const name of ["/", "/admin"]) {
  const nsp = io.of(name);
  nsp.on("connection", async (socket) => {
    const { user } = socket.handshake.auth;
    if (user) {
      socket.join(`user:${user}`);
    }
    socket.on("join", async (rooms, ack) => {
      socket.join(rooms);
      await settled();
      ack();
    });
    socket.on("rooms", async (ack) => {
      await settled();
      ack([...socket.rooms].filter((r) => r !== socket.id).sort());
    });
  });
  nsp.on("told", (...args) => say({ nsp: name, told: args.map((a) => (Buffer.isBuffer(a) || a instanceof Uint8Array ? { bin: Buffer.from(a).toString("base64") } : a)) }));
}
http.listen(0, "127.0.0.1", () => say({ port: http.address().port }));
process.stdin.on("end", () => process.exit(0)).resume(); // with the test
