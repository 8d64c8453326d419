import { expect, test } from 'vitest';
import { Backfill } from '../src/lib/backfill';

function started(atOnce: number) {
  const order: number[] = [];
  const finish = new Map<number, { resolve: () => void; reject: (error: Error) => void }>();
  const backfill = new Backfill((id) => {
    order.push(id);
    return new Promise((resolve, reject) => finish.set(id, { resolve, reject }));
  }, atOnce);
  const end = async (id: number, error?: Error) => {
    if (error) finish.get(id)?.reject(error);
    else finish.get(id)?.resolve();
    await new Promise((resolve) => setTimeout(resolve, 0));
  };
  return { backfill, order, end };
}

test('reads a few at once, what is asked for last first, and nothing twice', async () => {
  const { backfill, order, end } = started(2);
  backfill.ask([1, 2, 3, 4]);
  expect(order).toEqual([1, 2]);
  backfill.ask([4, 5, 1]);
  await end(1);
  await end(2);
  expect(order).toEqual([1, 2, 4, 5]);
  await end(4);
  await end(5);
  expect(order).toEqual([1, 2, 4, 5, 3]);
  backfill.ask([1, 2, 3, 4, 5]);
  expect(order.length).toBe(5);
  expect([backfill.isDone(1), backfill.isDone(3)]).toEqual([true, false]);
});

test('what failed does not hold up the rest, and may be asked for again', async () => {
  const { backfill, order, end } = started(1);
  backfill.ask([1, 2]);
  await end(1, new Error('away'));
  expect(order).toEqual([1, 2]);
  await end(2);
  backfill.ask([1]);
  expect(order).toEqual([1, 2, 1]);
});

test('after a reset all is open again, and old reads count for nothing', async () => {
  const { backfill, order, end } = started(1);
  backfill.ask([1, 2]);
  backfill.reset();
  backfill.ask([3]);
  await end(1);
  expect(backfill.isDone(1)).toBe(false);
  expect(order).toEqual([1, 3]);
});
