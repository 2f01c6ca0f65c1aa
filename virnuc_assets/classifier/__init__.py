"""From embeddings to calls: the MLP head, the calling rules, the result files and the report.

Here: what a score means for a frame, a chunk and a record. Not here: how embeddings are made or
stored, and nothing of Dagster. Only `head` and `import_pth` import torch.
"""
