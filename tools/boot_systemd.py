"""The shipped units under a real systemd, booted in namespaces over this machine's root.

    python -m tools.boot_systemd                 # needs root, systemd, overlayfs; about a minute
    python -m tools.boot_systemd --cpu-only      # with systemd/edgeq-cpu.conf
    python -m tools.boot_systemd start restart   # these parts alone

Parts: start, deploy, private, hardening, journal, reload, restart, crash, watchdog, refused,
socket, stop. Each says what it saw; the exit code is 1 where one did not hold. The units are the
shipped ones; the watchdog's time alone is shortened for its part.
"""

from __future__ import annotations

import sys
from pathlib import Path


def run() -> int:
    """Run the program, wherever it is called from."""
    sys.path.append(str(Path(__file__).resolve().parent.parent))  # an installed edgeq comes first
    from tools.systemd_boot.program import main

    return main(__doc__ or "")


if __name__ == "__main__":
    sys.exit(run())
