"""python -m tools.gpu_bench.child CONTESTANT REQUEST REPLY: measure, and write what came out.

A process of its own for each: a kernel that fails takes its context along, a library that is not
there ends with its reason, and nobody's memory is in the other's way.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tools.gpu_bench.contestants import ALL
from tools.gpu_bench.peers import Absent


def main(contestant: str, request: str, reply: str) -> None:
    try:
        result = ALL[contestant](json.loads(request))
        answer = {"status": "ok", **result}
    except (ImportError, Absent) as error:
        answer = {"status": "absent", "reason": str(error)}
    except Exception as error:  # noqa: BLE001 - whatever a library raises is its row's reason
        answer = {"status": "failed", "reason": f"{type(error).__name__}: {error}"}
    Path(reply).write_text(json.dumps(answer))


if __name__ == "__main__":
    main(*sys.argv[1:])
