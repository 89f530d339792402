"""A child that says so many lines at once, and then sleeps: "lines seconds" on standard input."""

import sys
import time

if __name__ == "__main__":
    lines, seconds = map(int, sys.stdin.readline().split())
    for number in range(lines):
        print(number, flush=number < 10)
    sys.stdout.flush()
    time.sleep(seconds)
