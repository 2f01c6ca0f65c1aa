"""How good calls are: metrics, labelled truth, tables and one page of figures.

Here: what is measured and how it is shown, from scores and labels that are given. Not here: making
the scores, which is prediction, and choosing or training models.
"""
