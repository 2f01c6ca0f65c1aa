"""From a FASTA file to an index: records, chunks, open frames, unique sequences.

Here: reading and refusing sequence files, chunking, six-frame translation, the index's tables.
Not here: tokens, embeddings, predictions, and where a sample's index lies.
"""
