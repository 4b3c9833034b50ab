"""Print the lowest versions that setup.py allows, as constraints for pip.

python tools/lowest.py > lowest.txt && pip install -c lowest.txt '.[plots]'
"""

import ast
import pathlib
import re

SETUP = pathlib.Path(__file__).resolve().parents[1] / "setup.py"


def lowest(text: str) -> list[str]:
    """Return `name==version` for every requirement with a lower bound in the text of a setup.py.

    >>> lowest("X = ['numpy>=1.26', 'fsspec[http]>=2024.6,<2027', 'rich']")
    ['fsspec==2024.6', 'numpy==1.26']
    """
    values = [node.value for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
    matches = (re.match(r"([\w-]+)(?:\[\w+\])?>=([\d.]+)", str(value)) for value in values)
    return sorted({f"{match[1]}=={match[2]}" for match in matches if match})


if __name__ == "__main__":
    print("\n".join(lowest(SETUP.read_text(encoding="utf-8"))))
