"""The posterior over target classes: what the labels so far say about every row of the pool, and
how much they leave unexplained.

Gaussian-process regression of one-hot labels with prior mean 0. Far from every label all class
means are near 0: the mass that is missing there belongs to classes that no label has shown yet, so
that no list of classes is needed. Labels are added by one exact step, one or several at a time;
nothing is ever solved from scratch.

    process = gaussian_process.begin(features, capacity=500, num_classes=100)
    process = gaussian_process.update(process, row, label)
    probabilities, unexplained = gaussian_process.explain(process)

`process` has the steps, `predictions` what is read from a process. `exact` and `with_landmarks` are
the two representations of how rows are related, with the same functions; both keep `columns`.
`local` is a process on a few rows that keeps their covariances instead.
"""

from balal.kernels.gaussian_process.exact import Exact as Exact
from balal.kernels.gaussian_process.exact import prior as prior
from balal.kernels.gaussian_process.local import Local as Local
from balal.kernels.gaussian_process.local import coverage_gain as coverage_gain
from balal.kernels.gaussian_process.local import learn as learn
from balal.kernels.gaussian_process.local import localise as localise
from balal.kernels.gaussian_process.predictions import expected_worth as expected_worth
from balal.kernels.gaussian_process.predictions import explain as explain
from balal.kernels.gaussian_process.predictions import utility as utility
from balal.kernels.gaussian_process.process import GaussianProcess as GaussianProcess
from balal.kernels.gaussian_process.process import begin as begin
from balal.kernels.gaussian_process.process import restrict as restrict
from balal.kernels.gaussian_process.process import update as update
from balal.kernels.gaussian_process.with_landmarks import Landmarks as Landmarks
