"""Commands that see a terminal."""

import contextlib
import fcntl
import os
import struct
import subprocess
import termios
import threading


def on_a_terminal(command, stdout):
    """Run a command whose stderr is a terminal: what that got, and what came through the pipe.

    With `None` for stdout, that is the terminal too.
    """
    leader, terminal = os.openpty()
    shown = []

    def read():
        with contextlib.suppress(OSError):  # when the other end is closed
            while data := os.read(leader, 4096):
                shown.append(data)

    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    reader = threading.Thread(target=read)
    reader.start()
    try:
        environment = {**os.environ, "TERM": "xterm"}
        done = subprocess.run(
            command, stdout=stdout or terminal, stderr=terminal, check=True, env=environment, timeout=120
        )
    finally:
        os.close(terminal)
        reader.join(60)
        os.close(leader)
    return b"".join(shown), done.stdout
