"""The printed figures of Aggarwal, Popescu, Hudelot, WACV 2020 (Tables 2 to 5), for comparison with
ours."""

from dataclasses import dataclass

from experiments.common import datasets

_TABLES = {
    ("accuracy", "none"): ("table2_before_balancing", "acc"),
    ("accuracy", "balance"): ("table3_after_balancing", "acc"),
    ("classes_found", "none"): ("table4_before_balancing", "classes"),
    ("classes_found", "balance"): ("table5_after_balancing", "classes"),
    ("imbalance_ratio", "none"): ("table4_before_balancing", "ir"),
    ("imbalance_ratio", "balance"): ("table5_after_balancing", "ir"),
}


@dataclass(frozen=True)
class Figures:
    """What the paper prints for one data set. full: percent, accuracy with the whole pool
    labelled."""

    dataset: str
    full: float

    def printed(self, metric: str, strategy: str, budget: int, rule: str) -> float | None:
        """The printed figure (accuracy in percent), or None where the paper has none. Both of our
        balancing rules are compared with its one."""
        table, column = _TABLES.get(
            (metric, "balance" if rule == "balance_printed" else rule), (None, None)
        )
        if table is None:
            return None
        return (
            datasets.paper_tables()[table]
            .get(strategy, {})
            .get(column, {})
            .get(self.dataset, {})
            .get(str(budget))
        )


def figures(dataset: datasets.Dataset) -> Figures | None:
    """The paper's figures for this pool; None where it is not a pool of the paper's Table 1."""
    if not datasets.is_paper_pool(dataset):
        return None
    return Figures("CIFAR-100", datasets.paper_tables()["full_accuracy"]["CIFAR-100"])
