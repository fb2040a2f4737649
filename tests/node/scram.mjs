// SCRAM (RFC 5802, RFC 7677), the client's side, with the cryptography of Node.js: one conversation.
import { createHash, createHmac, pbkdf2Sync, randomBytes, timingSafeEqual } from "node:crypto";

const xor = (one, other) => Buffer.from(one.map((byte, index) => byte ^ other[index]));

export class Scram {
  #hash;
  #password;
  #bare;
  #nonce = randomBytes(18).toString("base64");
  #proof = Buffer.alloc(0); // that the server must send

  constructor(method, username, password) {
    this.method = method;
    this.#hash = method.slice("SCRAM-".length).replace("-", "").toLowerCase(); // sha256, sha512
    this.#password = password;
    this.#bare = `n=${username.replaceAll("=", "=3D").replaceAll(",", "=2C")},r=${this.#nonce}`;
  }

  first() {
    return Buffer.from("n,," + this.#bare);
  }

  final(challenge) {
    const { r: nonce, s: salt, i: iterations } = fields(challenge);
    if (!nonce.startsWith(this.#nonce) || nonce === this.#nonce) throw new Error("a nonce that is not for us");
    const size = createHash(this.#hash).digest().length;
    const salted = pbkdf2Sync(this.#password, Buffer.from(salt, "base64"), Number(iterations), size, this.#hash);
    const bare = `c=biws,r=${nonce}`; // no channel binding: base64 of "n,,"
    const said = `${this.#bare},${challenge},${bare}`;
    const clientKey = this.#hmac(salted, "Client Key");
    const storedKey = createHash(this.#hash).update(clientKey).digest();
    this.#proof = this.#hmac(this.#hmac(salted, "Server Key"), said);
    return Buffer.from(`${bare},p=${xor(clientKey, this.#hmac(storedKey, said)).toString("base64")}`);
  }

  // Throws if the server does not know the password either.
  check(last) {
    const proof = Buffer.from(fields(last).v ?? "", "base64");
    if (proof.length !== this.#proof.length || !timingSafeEqual(proof, this.#proof))
      throw new Error("the server has not proved itself");
  }

  #hmac(key, text) {
    return createHmac(this.#hash, key).update(text).digest();
  }
}

function fields(message) {
  return Object.fromEntries(
    String(message)
      .split(",")
      .map((field) => [field[0], field.slice(2)]),
  );
}
