"""Packed ESM-2 and DNABERT-S: weights, tokens, packing, attention backends, pooling.

Here: sequences in, mean representations out, on one device. Not here: blocks, processes, files
of embeddings (the runner), or where a deployment's settings come from (the resources).
Imports with torch and numpy alone; `catalog` without torch too.
"""
