/** An HTTP server that takes what is posted to it, and answers as it is told. */

import { once } from 'node:events';
import { createServer } from 'node:http';

export class Sink {
  /** What was posted, parsed, in the order of arrival. */
  got = [];
  /** The status of each answer. */
  status = 200;
  #server;

  static async open() {
    const sink = new Sink();
    sink.#server = createServer((request, response) => void sink.#take(request, response)).listen(0, '127.0.0.1');
    await once(sink.#server, 'listening');
    sink.url = `http://127.0.0.1:${sink.#server.address().port}/hook`;
    return sink;
  }

  async close() {
    this.#server.close();
    this.#server.closeAllConnections();
    await once(this.#server, 'close');
  }

  async #take(request, response) {
    const chunks = [];
    for await (const chunk of request) chunks.push(chunk);
    const { status } = this;
    if (status < 300) this.got.push(JSON.parse(Buffer.concat(chunks).toString('utf8')));
    response.writeHead(status).end();
  }
}
