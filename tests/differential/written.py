"""Write `docs/differences.md`: `python -m tests.differential.written`."""

from pathlib import Path
from typing import Final

from tests.differential.rules import page

PAGE: Final = Path(__file__).parents[2] / "docs" / "differences.md"

if __name__ == "__main__":
    PAGE.write_text(page())
