"""A child that says so many lines at once, and then sleeps: "lines seconds" on standard input.

A third word has it say its result before that: "whole" or "half" of one, or "babble", lines without
end after a whole one. With a fourth it does not sleep, but ends by the signal of that number.
"""

import os
import sys
import time

if __name__ == "__main__":
    lines, seconds, *words = sys.stdin.readline().split()
    for number in range(int(lines)):
        print(number, flush=number < 10)
    if words:
        print('{"result": [1, 2', end="" if "half" in words else "]}\n", flush=True)
    while "babble" in words:
        print("and another thing")
    sys.stdout.flush()
    if words[1:]:
        os.kill(os.getpid(), int(words[1]))
    time.sleep(int(seconds))
