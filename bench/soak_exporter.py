# SPDX-License-Identifier: Apache-2.0
"""The exporter of the soak: as always, and a thread that counts its tasks and objects into a file.

Arguments: the file, then those of ollama-exporter.
"""

import asyncio
import gc
import sys
import threading
import time
from pathlib import Path
from typing import Final

from ollama_exporter.__main__ import main

PERIOD: Final = 15.0  # seconds; a look takes some 50 ms of the interpreter


def count(file: Path) -> None:
    """Write how many tasks, objects and blocks of Python's allocator there are, now and then."""
    while True:
        time.sleep(PERIOD)
        # The old ones: a tuple that is being filled is young, and tuple() fails with a SystemError
        # if anybody else holds it (github.com/python/cpython/issues/59313).
        objects = gc.get_objects(generation=2)
        tasks = sum(isinstance(each, asyncio.Task) for each in objects)
        blocks = sys.getallocatedblocks()  # a leak shows here before it shows in pages
        file.write_text(f"{tasks} {len(objects)} {blocks}", encoding="ascii")
        del objects


if __name__ == "__main__":
    threading.Thread(target=count, args=(Path(sys.argv[1]),), daemon=True).start()
    sys.argv = ["ollama-exporter", *sys.argv[2:]]
    main()
