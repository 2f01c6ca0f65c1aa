"""Checks beside the assets, a module an asset; blocking where a wrong result would flow on.

Not here: what a check compares, where that takes more than reading a table.
"""
