"""Prints BYTES of deterministic text, lines of 100 bytes like those of a compiler: the step of the measure `logs`."""
import random
import sys

LINE = 100
LINES = 20_000  # then it begins again with other numbers: no two blocks are the same
FIRST = b"=== the log begins ===".ljust(LINE - 1, b".") + b"\n"


def _lines():
    """The lines of one piece without their ends."""
    dice = random.Random(11)
    words = [bytes(dice.choices(b"abcdefghijklmnopqrstuvwxyz_", k=dice.randint(3, 9))) for _ in range(400)]
    pick = dice.choice
    lines = (b"[%06d] cc -O2 -Wall -Isrc/%s -c src/%s/%s.c -o build/%s.o" % (
        n, pick(words), pick(words), pick(words), pick(words)) for n in range(LINES))
    return [line[:LINE - 12].ljust(LINE - 12, b".") for line in lines]


def pieces(total):
    """The text in pieces of 2 MB; `total` is its length in bytes, a multiple of 100."""
    yield FIRST
    left, number, lines = total // LINE - 1, 0, _lines()
    while left > 0:
        mark = b" #%09d\n" % number
        text = mark.join(lines[:left]) + mark
        number += 1
        left -= LINES
        yield text


def main():
    """Prints it."""
    for piece in pieces(int(sys.argv[1])):
        sys.stdout.buffer.write(piece)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
