"""Writes `examples/complete_service.py`: the last program on the page from which Daebus was ordered, byte for byte,
including its mistake.

    python -m scripts.complete_service
"""

from __future__ import annotations

import sys
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parent.parent
PAGE = REPOSITORY / "tests" / "docs" / "seed" / "overview.md"
PROGRAM = REPOSITORY / "examples" / "complete_service.py"


def last_program(page: str) -> str:
    """The text of the page's last Python block."""
    _, _, rest = page.rpartition("```python\n")
    program, fence, _ = rest.partition("\n```")
    if not fence:
        raise ValueError("the page has no Python block")
    return program + "\n"


def main() -> int:
    PROGRAM.write_text(last_program(PAGE.read_text()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
