"""How good poses are: MPII multi-person AP, PCKh and COCO keypoint AP, as the official tools compute them.

Numpy only, no torch. ``mpii``, ``pckh`` and ``coco`` take arrays, ``files`` reads what public tools write, ``paper``
holds the published tables, ``evaluate`` ties them together for the command line.
"""
