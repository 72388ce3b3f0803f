"""`python -m nmt`, the same as `nmt`."""

import os
import sys

if not sys.flags.safe_path and sys.path and sys.path[0] in ("", os.getcwd()):
    del sys.path[0]  # a file named torch.py where the user works is not ours to import

from nmt.cli import main

sys.exit(main())
