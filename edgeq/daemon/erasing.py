"""All samples of a model -> gone from the disk, and a word on what still holds some."""

from __future__ import annotations

from typing import Any

from edgeq import files
from edgeq.daemon.deployment import Context, Deployment


def erase_samples(context: Context, deployment: Deployment) -> dict[str, Any]:
    """Remove what was captured and what was given, of other inputs too; say what bundles keep.

    A version that serves needs the few inputs that it proves itself by at each load: they leave
    with their bundle. A build that runs still has its copies until it ends.
    """
    paths, name = context.paths, deployment.name
    removed = deployment.store.erase()
    aside = [each for each in paths.set_aside(name).rglob("*.npz") if each.is_file()]
    for folder in (paths.set_aside(name), paths.fresh(name)):
        files.remove_tree(folder)
    kept = [
        str(golden.relative_to(paths.state))
        for golden in sorted(paths.bundle(name, 0).parent.glob("*/golden.npz"))
    ]
    message = f"{removed + len(aside)} samples were erased on demand"
    context.events.record(name, "samples erased", message)
    return {"name": name, "removed": removed + len(aside), "kept": kept}
