"""Checks beside the assets, a module an asset; blocking where a wrong result would flow on.

Not here: what a check compares, where that takes more than reading a table. What reads tables is
imported where it is called: every Dagster process imports these modules.
"""
