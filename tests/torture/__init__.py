"""What no single test shows: hundreds of kills, flipped bytes and mutated files, counted.

`make torture` runs every harness for its share of the time and prints a table; `--planted` puts a bug into each
harness in turn and demands that it is caught.
"""
