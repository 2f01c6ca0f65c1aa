"""Files of a store that no current result needs: what there is, which of it can go, removing it.

Here: everything of `virnuc gc` but its table. Not here: Dagster's own files, and what a run tidies
up by itself.
"""
