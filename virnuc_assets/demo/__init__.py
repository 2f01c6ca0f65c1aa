"""The demo: a sample of real sequences whose truth is known, and how its calls compare with it.

Here: what makes the sample, in `data/` the sample, and the comparison. Not here: the model
(`virnuc_assets.mini`), and how good it is: so small a sample measures nothing.
"""
