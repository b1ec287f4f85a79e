"""A peer's requirements -> a virtual environment that has them, made once and reused.

pip's own settings apply: with an index of CPU wheels in them, torch comes without its CUDA
libraries (several GB).
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

DEFAULT_FOLDER = Path.home() / ".cache/edgeq-bench"
STAMP = "edgeq-requirements.txt"
INSTALL_LIMIT_S = 1800

# As they were measured together. What is not named is what pip finds for these.
REQUIREMENTS: Mapping[str, tuple[str, ...]] = {
    "tensorflow": (
        "tensorflow-cpu==2.21.0",
        "tf2onnx==1.17.0",
        "onnx==1.23.2",
        "onnxruntime==1.32.0",
    ),
    "onnxruntime": ("onnxruntime==1.32.0", "onnx==1.23.2", "sympy"),
    "ai-edge-quantizer": ("ai-edge-quantizer==0.10.0", "ai-edge-litert==2.3.0"),
    "nncf": ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.32.0"),
    # requests and huggingface_hub: its import fails without, and it does not ask for them
    "modelopt": ("nvidia-modelopt[onnx]==0.47.0", "torch==2.13.0", "requests", "huggingface_hub"),
}


class MissingEnvironment(Exception):
    """An environment cannot be made; the message says why in one line."""


def python_of(name: str, folder: Path, table: Mapping[str, tuple[str, ...]] | None = None) -> Path:
    """Return the interpreter of an environment, made or completed where it is not as wanted.

    `table` holds the requirements of each; None takes those above.

    Raises:
        MissingEnvironment: pip did not get everything.
    """
    requirements, environment = (table or REQUIREMENTS)[name], folder / name
    python, stamp = environment / "bin/python", environment / STAMP
    wanted = "\n".join((f"python {sys.version.split()[0]}", *requirements))
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        print(f"installing {', '.join(requirements)} in {environment}", file=sys.stderr)
        _run([sys.executable, "-m", "venv", str(environment)])  # makes the folders above it too
        _run([str(python), "-m", "pip", "install", "--quiet", *requirements])
        stamp.write_text(wanted)
    return python


def _run(command: list[str]) -> None:
    try:
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=INSTALL_LIMIT_S)
    except subprocess.TimeoutExpired as error:
        raise MissingEnvironment(f"not installed within {INSTALL_LIMIT_S} s") from error
    except (subprocess.CalledProcessError, OSError) as error:
        raise MissingEnvironment(_why(error)) from error


def _why(error: subprocess.CalledProcessError | OSError) -> str:
    """Return the first line that pip marks as an error, or else its last."""
    lines = (getattr(error, "stderr", "") or str(error)).strip().splitlines() or [str(error)]
    marked = [line for line in lines if line.startswith("ERROR:")]
    return (marked or lines[-1:])[0].removeprefix("ERROR:").strip()
