"""python -m iac.cli"""

from __future__ import annotations

from iac.cli.program import main

if __name__ == "__main__":
    main()
