"""Caffe's six update rules as torch optimizers, for training loops of your own.

``optim.Adam(net.parameters(), lr=0.001)`` updates as Caffe's Adam does, which differs from ``torch.optim.Adam``.
"""

from __future__ import annotations

from .caffe.solver.optimizers import SGD, AdaDelta, AdaGrad, Adam, CaffeOptimizer, Nesterov, RMSProp

__all__ = ["SGD", "AdaDelta", "AdaGrad", "Adam", "CaffeOptimizer", "Nesterov", "RMSProp"]
