/** Contrast by WCAG 2, and colours made legible. */

export type Rgb = readonly [number, number, number];

export function fromHex(hex: string): Rgb {
  const n = Number.parseInt(hex.slice(1), 16);
  return [(n >> 16) & 255, (n >> 8) & 255, n & 255];
}

export function luminance(color: Rgb): number {
  const [r, g, b] = color.map((value) => {
    const part = value / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  }) as [number, number, number];
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
}

export function contrast(a: Rgb, b: Rgb): number {
  const [high, low] = [luminance(a), luminance(b)].sort((x, y) => y - x) as [number, number];
  return (high + 0.05) / (low + 0.05);
}

const ENOUGH = 4.5;
const STEPS = 20;

/** The colour, lightened or darkened as little as needed to stand out from `ground`. */
export function legible(color: Rgb, ground: Rgb): Rgb {
  const towards = luminance(ground) < 0.2 ? 255 : 0;
  for (let step = 0; step <= STEPS; step += 1) {
    const part = step / STEPS;
    const mixed = color.map((value) => Math.round(value + (towards - value) * part)) as unknown as Rgb;
    if (contrast(mixed, ground) >= ENOUGH) return mixed;
  }
  return [towards, towards, towards];
}
