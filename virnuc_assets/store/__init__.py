"""Where things lie on disk and how they get there whole: atomic files, digests, HDF5, layout.

Here: paths, formats, publishing and checking of files. Not here: what the numbers mean.
"""
