"""Sensors: what arrives, and what changes under samples that are there.

Not here: what is made of it, which is automation's.
"""
