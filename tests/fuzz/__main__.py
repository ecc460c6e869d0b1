"""`make fuzz`: each target for its share of the time; status 1 where one of them found something."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.fuzz.seeds import write_seeds

FOLDER = Path("build/fuzz")
"""Where inputs that found something stay, and those that libFuzzer found worth keeping."""


def main(minutes: float) -> int:
    """Run them one after the other."""
    share_s = minutes * 60 / 5
    commands = {"dimse": [f"{share_s:g}"], "http": [f"{share_s:g}"]} | {
        target: [
            f"-max_total_time={share_s:.0f}",
            "-max_len=4096",
            "-timeout=10",
            "-print_final_stats=1",
            f"-artifact_prefix={FOLDER}/{target}-",
            str(seeds),
        ]
        for target, seeds in write_seeds(FOLDER).items()
    }
    failed = [
        target
        for target, options in commands.items()
        if subprocess.run([sys.executable, "-m", f"tests.fuzz.{target}", *options], check=False).returncode
    ]
    print(f"found something: {', '.join(failed)}" if failed else "nothing found")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(float(sys.argv[1])))
