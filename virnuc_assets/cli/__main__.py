"""`python -m virnuc_assets.cli`."""

from virnuc_assets.cli.main import main

main()
