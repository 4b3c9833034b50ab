"""The peer's own virtual environment, made on first use."""

import subprocess
import sys
from pathlib import Path

# On Linux torch's default wheels bring CUDA; pip's own settings may point to CPU ones.
REQUIREMENTS = ("torch==2.13.0", "transformers>=5,<6", "peft>=0.17,<1", "accelerate", "numpy")


def python(folder: Path) -> Path:
    """Return the interpreter of the environment in `folder`, after making it where it is not.

    Raises:
        RuntimeError: pip failed; its last lines are in the message.
    """
    python = folder / "bin" / "python"
    done = folder / "requirements.txt"
    wanted = "\n".join(REQUIREMENTS) + "\n"
    if done.is_file() and done.read_text(encoding="utf-8") == wanted:
        return python
    run([sys.executable, "-m", "venv", str(folder)])
    run([str(python), "-m", "pip", "install", "--quiet", *REQUIREMENTS])
    done.write_text(wanted, encoding="utf-8")
    return python


def run(command: list[str]) -> None:
    """Run a command, its output only in the error."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed: {done.stderr.strip()[-500:]}")
