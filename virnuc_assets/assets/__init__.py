"""The assets, one module each: thin functions that read settings, call a layer below and return
metadata. Not here: how anything is computed or stored.
"""

import warnings

import dagster as dg

# Range backfills and partitioned checks are used knowingly, and the Dagster version is pinned.
warnings.filterwarnings("ignore", category=dg.BetaWarning)
warnings.filterwarnings("ignore", category=dg.PreviewWarning)
