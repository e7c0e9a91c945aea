"""Evaluation of poses: MPII multi-person AP, PCKh and COCO keypoint AP, as the official tools compute them.

Needs numpy only, no torch. ``mpii``, ``pckh`` and ``coco`` take arrays, ``files`` reads the formats of public tools,
and ``evaluate`` combines them for the command line.
"""
