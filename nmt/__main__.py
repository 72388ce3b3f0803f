"""The process: `nmt`, and `python -m nmt`, which is the same."""

import contextlib
import os
import sys

from nmt.host import ends_at_once


def main() -> int:
    """Run the command line and return the exit code; a package that is missing is one line, like every error."""
    try:
        try:
            from nmt.cli import main as run
        except ModuleNotFoundError as error:
            print(f"nmt: error: the package {error.name} is missing: install nmt again", file=sys.stderr)
            return 1
        code = run()
    except KeyboardInterrupt:  # while it starts; later ones are seen to further in
        return 130
    if ends_at_once():  # all that is ours has been put in order
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()
        os._exit(code)
    return code


if __name__ == "__main__":
    if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
        del sys.path[0]  # a file named torch.py where the user works is not ours to import
    sys.exit(main())
