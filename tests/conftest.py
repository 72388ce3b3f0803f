"""What holds for all tests."""

import signal

# A shell starts background jobs with SIGINT ignored, and children inherit that: tests that send it need the default.
signal.signal(signal.SIGINT, signal.default_int_handler)
