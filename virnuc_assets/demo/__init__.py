"""The demo profile: a sample, two tiny encoders and a tiny head, all made from fixed seeds.

Here: what makes them, and in `data/` what they made. Not here: anything a real run uses; none of it
was trained, and results made with it say so.
"""
