/** A TCP proxy between browser and master, which can be cut. */

import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Proxy {
  #server;
  #pairs = new Set();
  #target;
  #whole = true;
  /** Connections that were refused while it was cut. */
  refused = 0;

  static async to(port) {
    const proxy = new Proxy();
    proxy.#target = port;
    proxy.#server = createServer((socket) => proxy.#accept(socket)).listen(0, '127.0.0.1');
    await once(proxy.#server, 'listening');
    proxy.url = `http://127.0.0.1:${proxy.#server.address().port}`;
    return proxy;
  }

  /** Breaks every connection and takes no new one until it is mended. */
  cut() {
    this.#whole = false;
    for (const [one, other] of this.#pairs) {
      one.resetAndDestroy();
      other.resetAndDestroy();
    }
    this.#pairs.clear();
  }

  mend() {
    this.#whole = true;
  }

  async close() {
    this.cut();
    this.#server.close();
    await once(this.#server, 'close');
  }

  #accept(client) {
    if (!this.#whole) {
      this.refused += 1;
      client.resetAndDestroy();
      return;
    }
    const master = connect(this.#target, '127.0.0.1');
    const pair = [client, master];
    this.#pairs.add(pair);
    const end = () => {
      this.#pairs.delete(pair);
      client.destroy();
      master.destroy();
    };
    for (const socket of pair) socket.setNoDelay(true).on('error', end).on('close', end);
    client.pipe(master).pipe(client);
  }
}
