// Clients, driven by lines of JSON on standard input: each is answered by one on standard output, between those that say what
// the clients hear.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");
const clients = new Map();

// shown has binary as {"bin": base64}.
function shown(v) {
  if (v instanceof ArrayBuffer || ArrayBuffer.isView(v)) {
    return { bin: Buffer.from(v).toString("base64") };
  }
  if (Array.isArray(v)) {
    return v.map(shown);
  }
  if (v !== null && typeof v === "object") {
    return Object.fromEntries(Object.entries(v).map(([key, x]) => [key, shown(x)]));
  }
  return v;
}

const operations = {
  connect: ({ client, beside, port, nsp, auth, transports }) =>
    new Promise((resolve, reject) => {
      const socket = beside
        ? clients.get(beside).io.socket(nsp) // another namespace of the same connection
        : io(`http://127.0.0.1:${port}${nsp}`, { auth, transports, forceNew: true, reconnection: false });
      clients.set(client, socket);
      socket.onAny((event, ...args) => say({ client, event, args: shown(args) }));
      socket.on("connect", () => resolve(socket.id));
      socket.on("connect_error", reject);
      socket.on("disconnect", (reason) => say({ client, disconnect: reason }));
    }),
  ask: ({ client, event, args }) => clients.get(client).timeout(20000).emitWithAck(event, ...args),
  close: ({ client }) => {
    clients.get(client).removeAllListeners("disconnect").disconnect();
    clients.delete(client);
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { op, ...what } = JSON.parse(line);
  Promise.resolve(operations[op](what)).then(
    (answer) => say({ to: what.id, answer }),
    (err) => say({ to: what.id, error: err.message }),
  );
}
process.exit(0);
