"""The harnesses see what they are to see; what they find is their own business."""

from pathlib import Path

from tests.torture.training import numbered

TRACE = """\
7 write(2</run/m.err>, "starting"..., 8) = 8
7 openat(AT_FDCWD</>, "/lib/x.so", O_RDONLY) = 3
7 fsync(16</run/m/training/checkpoints/.update-00000001.ab.tmp>) = 0
7 rename("/run/m/training/checkpoints/.update-00000001.ab.tmp", "/run/m/training/checkpoints/update-00000001") = 0
7 write(16</run/m/training/log.jsonl>, "{}"..., 2) = 2
7 rename("/run/m/training/checkpoints/.update-00000002.cd.tmp", "/run/m/training/checkpoints/update-00000002") = -1
7 openat(AT_FDCWD</>, "/run/m/training/lock", O_RDWR) = 5
"""


def test_calls_on_the_files_of_a_run_are_numbered_and_know_what_was_saved_before_them() -> None:
    assert list(numbered(TRACE, Path("/run/m"))) == [
        ("write", 1, 0),
        ("fsync", 1, 0),
        ("rename", 1, 0),
        ("write", 2, 1),
        ("rename", 2, 1),
        ("openat", 2, 1),
    ]
