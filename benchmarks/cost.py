"""`python cost.py COMMAND…`: what a command costs, as one line of JSON: seconds, and peak memory in MB.

The kernel counts the peak of a process from before it was that program, and so that of a large parent too:
this one stays small.
"""

import json
import os
import sys
import time


def main() -> int:
    """Run the command without its output; its exit status is ours."""
    silent = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
    started = time.perf_counter()
    process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=silent)
    _, status, usage = os.wait4(process, 0)
    seconds = time.perf_counter() - started
    print(json.dumps({"seconds": seconds, "memory_mb": usage.ru_maxrss / 1024}))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main())
