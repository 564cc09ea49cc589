"""Types at a program through a pseudo-terminal.

Usage: at_a_terminal.py COLUMNS COMMAND... < steps.json

A step is [TEXT, KEYS]: once TEXT has been shown since the last step, KEYS are typed. All that was shown goes to stdout;
the exit code is that of the program, or 99 if a text did not come in time.
"""

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time

PATIENCE_SECONDS = 120


def main():
    columns, command = int(sys.argv[1]), sys.argv[2:]
    steps = json.load(sys.stdin)
    process, terminal = pty.fork()
    if process == 0:
        os.environ["TERM"] = "xterm"
        os.execv(command[0], command)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    shown, seen = b"", 0
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        if steps and steps[0][0].encode() in shown[seen:]:
            _, keys = steps.pop(0)
            seen = len(shown)
            # What shows a prompt may not listen yet.
            time.sleep(0.3)
            os.write(terminal, keys.encode())
            continue
        ready, _, _ = select.select([terminal], [], [], max(0, until - time.monotonic()))
        if not ready:
            sys.stdout.buffer.write(shown)
            sys.stderr.write(f"waited in vain for {steps[:1]}\n")
            os.kill(process, 9)
            sys.exit(99)
        try:
            piece = os.read(terminal, 65536)
        except OSError:
            piece = b""
        if not piece:
            break
        shown += piece
    _, status = os.waitpid(process, 0)
    sys.stdout.buffer.write(shown)
    if steps:
        sys.stderr.write(f"ended before {steps[:1]}\n")
    sys.exit(99 if steps else os.waitstatus_to_exitcode(status))


main()
