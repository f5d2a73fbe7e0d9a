"""A batch that is uncertain and, by the target model's predictions, brings every class to its
share: chosen as a whole, with a bound that says how far the choice may be from the best one.

With costs `h` (the negative entropy), probabilities `P`, deficits `D` of the classes and a weight
`w`, the batch is the one of least

    f(z) = h'z + w |D - P'z|_1,    z in {0, 1}^N,    1'z = b

For any multipliers `|y_c| <= w`, `g(y) = D'y + sum of the b smallest h - P y` is no more than that.
The largest `g` is the optimum of the linear program in which rows may be chosen in part; there
`D_c > (P'z)_c` only where `y_c = w`, and `D_c < (P'z)_c` only where `y_c = -w`.

`shortfall` says what the classes lack, `batch` has the search from end to end, `problem` the
two sides of it, `ascent` the multipliers, `exchange` the repair of a batch, and `arguments` the
checks.
"""

from balal.kernels.class_balance.batch import Batch as Batch
from balal.kernels.class_balance.batch import balanced_batch as balanced_batch
from balal.kernels.class_balance.shortfall import deficits as deficits
