import { ApiError } from './api';

export interface Toast {
  id: number;
  kind: 'done' | 'failed';
  text: string;
  /** Where to look, for example at the build that was started. */
  link?: { href: string; text: string };
}

const SHOWN_MS = 6000;
const SHOWN_AT_MOST = 4;

class Toasts {
  list = $state.raw<Toast[]>([]);
  #next = 0;

  /** Something was done; goes away by itself. */
  done(text: string, link?: Toast['link']): void {
    const id = this.#add({ kind: 'done', text, link });
    setTimeout(() => this.close(id), SHOWN_MS);
  }

  /** Something failed; stays until it is closed. Says what, why and the request's id. */
  failed(what: string, error: unknown): void {
    const why = error instanceof Error ? error.message : String(error);
    const request = error instanceof ApiError && error.requestId !== '' ? ` (request ${error.requestId})` : '';
    this.#add({ kind: 'failed', text: `${what}: ${why}${request}` });
  }

  close(id: number): void {
    this.list = this.list.filter((toast) => toast.id !== id);
  }

  #add(toast: Omit<Toast, 'id'>): number {
    const id = ++this.#next;
    this.list = [...this.list, { ...toast, id }].slice(-SHOWN_AT_MOST);
    return id;
  }
}

export const toasts = new Toasts();
