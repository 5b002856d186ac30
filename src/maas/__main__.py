"""`python -m maas` is the command line too."""

from __future__ import annotations

from maas.cli import main

main()
