"""The original's modules, for code that imports from them. Public names only; everything is in `daebus` itself."""

from __future__ import annotations
