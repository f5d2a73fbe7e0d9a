"""The choice of Eq. 9 without a pass over the features for every pick, from bounds on the distances
between rows and class means that move.

A mean that moves by some length changes no distance by more than that. So a table of distances
stays useful while its means move: an old distance, plus or minus what its mean has moved since,
bounds the new one, and so gives a lower bound of every row's ratio in Eq. 9. The row with the
lowest bound is measured, as a sum of squared differences to every mean, until the best one measured
lies below all other bounds: one or two rows per pick. Only when that takes too long, or the wanted
class itself has moved, is the table brought up to date, a block of classes by one matrix product:
every twenty picks or so with a hundred classes, more often with few.

    bounds = begin(features, num_classes=100)
    bounds = move(bounds, label, length)    # a new label moved the mean of its class by length
    pick, bounds = choose(bounds, features, means, wanted, over, candidates)

`search` finds the row, `bounds` keeps the table.
"""

from balal.kernels.class_means.bounds import Bounds as Bounds
from balal.kernels.class_means.bounds import begin as begin
from balal.kernels.class_means.bounds import grow as grow
from balal.kernels.class_means.bounds import move as move
from balal.kernels.class_means.search import choose as choose
