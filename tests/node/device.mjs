// MQTT.js as devices. Commands come in as JSON lines, what happens goes out as JSON lines; tests/scenarios/javascript.py
// writes and reads them. One process may be many devices.
//
//   {"do": "connect", "device": "d", "id": "client", "url": "wss://127.0.0.1:8085/mqtt", "ca": "ca.pem", "version": 5,
//    "clean": true, "username": "u", "password": "p", "certificate": "device.pem", "key": "device.key",
//    "method": "SCRAM-SHA-256"}
//   {"do": "authenticate", "device": "d", "username": "u", "password": "p"}
//   {"do": "publish", "device": "d", "token": 1, "topic": "t", "payload": "<base64>", "qos": 1, "retain": false,
//    "properties": {...}}
//   {"do": "subscribe", "device": "d", "token": 2, "filter": "t/#", "qos": 1}
//   {"do": "end", "device": "d"}
//
// "properties" are those of MQTT.js, but correlationData is base64. With "method", the password is not shown but proved,
// and "authenticate" does that anew.
import { readFileSync } from "node:fs";
import { createInterface } from "node:readline";
import mqtt from "mqtt";
import { Scram } from "./scram.mjs";

const devices = new Map();

const say = (event) => process.stdout.write(JSON.stringify(event) + "\n");

const read = (file) => (file ? readFileSync(file) : undefined);

const base64 = (bytes) => Buffer.from(bytes).toString("base64");

function told(properties = {}) {
  const { correlationData, ...rest } = properties;
  return correlationData === undefined ? rest : { ...rest, correlationData: base64(correlationData) };
}

function given({ correlationData, ...rest } = {}) {
  return correlationData === undefined ? rest : { ...rest, correlationData: Buffer.from(correlationData, "base64") };
}

function answer(device, token, packet) {
  const { reasonCode = 0, granted, properties } = packet ?? {};
  say({ event: "answered", device, token, reason: reasonCode, granted, properties: told(properties) });
}

function auth(scram, reasonCode, authenticationData) {
  return { cmd: "auth", reasonCode, properties: { authenticationMethod: scram.method, authenticationData } };
}

// What MQTT.js asks when AUTH comes: for the next one, or what to make of the last.
function answerAuth(device, client) {
  client.handleAuth = ({ reasonCode, properties }, done) => {
    try {
      if (reasonCode !== 0) return done(undefined, auth(client.scram, 0x18, client.scram.final(properties.authenticationData)));
      client.scram.check(properties.authenticationData);
      say({ event: "authenticated", device });
      done();
    } catch (error) {
      done(error);
    }
  };
}

const doing = {
  connect({ device, id, url, ca, version, clean, username, password, certificate, key, method }) {
    const scram = method ? new Scram(method, username, password) : undefined;
    const proving = scram ? { authenticationMethod: method, authenticationData: scram.first() } : {};
    const client = mqtt.connect(url, {
      clientId: id,
      protocolVersion: version,
      clean,
      properties: version === 5 ? { sessionExpiryInterval: clean ? 0 : 3600, ...proving } : undefined,
      username: scram ? undefined : (username ?? undefined),
      password: scram ? undefined : (password ?? undefined),
      ca: read(ca),
      cert: read(certificate),
      key: read(key),
      reconnectPeriod: 0,
      connectTimeout: 10_000,
    });
    devices.set(device, client);
    client.scram = scram;
    answerAuth(device, client);
    client.on("connect", ({ sessionPresent, properties }) => {
      if (scram) scram.check(properties.authenticationData); // an exception ends the process, and the test with it
      say({ event: "connected", device, sessionPresent });
    });
    client.on("error", (error) => say({ event: "error", device, words: String(error), code: error.code }));
    client.on("close", () => say({ event: "closed", device }));
    client.on("disconnect", (packet) => say({ event: "dismissed", device, reason: packet.reasonCode }));
    client.on("message", (topic, payload, { qos, retain, properties }) =>
      say({ event: "message", device, topic, payload: base64(payload), qos, retain, properties: told(properties) }),
    );
  },

  publish({ device, token, topic, payload, qos, retain, properties }) {
    const options = { qos, retain, properties: properties ? given(properties) : undefined };
    // A negative acknowledgement comes as an error beside the packet that said so; a positive one beside our own.
    devices.get(device).publish(topic, Buffer.from(payload, "base64"), options, (error, packet) => {
      if (error && error.code === undefined) say({ event: "error", device, token, words: String(error) });
      else answer(device, token, error ? packet : undefined);
    });
  },

  subscribe({ device, token, filter, qos }) {
    devices.get(device).subscribe(filter, { qos }, (error, _granted, packet) => {
      if (packet) answer(device, token, packet);
      else say({ event: "error", device, token, words: String(error) });
    });
  },

  authenticate({ device, username, password }) {
    const client = devices.get(device);
    client.scram = new Scram(client.scram.method, username, password);
    client._sendPacket(auth(client.scram, 0x19, client.scram.first())); // MQTT.js can, but has no public name for it
  },

  end({ device }) {
    devices.get(device).end();
  },
};

say({ event: "started" });
for await (const line of createInterface({ input: process.stdin })) {
  const command = JSON.parse(line);
  doing[command.do](command);
}
process.exit(0);
