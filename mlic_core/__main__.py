"""`python -m mlic_core` is `mlic`."""

from mlic_core.study.cli import main

main(prog_name="mlic")
