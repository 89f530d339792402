"""A folder for what Triton compiles: a process's own, since what lies there is run."""

import atexit
import os
import shutil
import tempfile
from pathlib import Path


def own_folder() -> Path:
    """Make a folder for this process's kernels and its compiler's files, for as long as it lives.

    One that was killed leaves its own behind, which the system clears with its temporary files.
    """
    folder = Path(tempfile.mkdtemp(prefix="etude-kernels-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ |= {"TRITON_CACHE_DIR": str(folder / "triton"), "TMPDIR": str(folder)}
    tempfile.tempdir = None
    return folder
