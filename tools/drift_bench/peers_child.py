"""Columns of a reference and of windows (.npz) -> what the peers say of each window, as JSON.

Runs alone in the peers' own environment: `python -I peers_child.py WINDOWS.npz`. The file holds
`names`, `categorical` (bool for each), `reference` [frames, columns] and, for every kind of window,
`windows_KIND` [windows, frames, columns].
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402

Frame = Any  # pandas' own
Found = dict[str, tuple[float, bool]]  # column -> figure, whether it drifts


def evidently_judge(test: str | None) -> Callable[[Frame, Frame, list[str]], Found]:
    """Return Evidently's verdict by one test, or by the one that it chooses itself."""
    from evidently.legacy.calculations.stattests import get_stattest
    from evidently.legacy.core import ColumnType

    def judge(reference: Frame, live: Frame, categorical: list[str]) -> Found:
        found = {}
        for name in reference:
            kind = ColumnType.Categorical if name in categorical else ColumnType.Numerical
            columns = reference[name], live[name]
            result = get_stattest(*columns, kind, test)(*columns, kind, None)
            found[name] = float(result.drift_score), bool(result.drifted)
        return found

    return judge


def whylogs_judge(reference: Frame, live: Frame, categorical: list[str]) -> Found:
    """Return the verdict that whylogs' drift report gives by default."""
    import whylogs
    from whylogs.viz.drift.column_drift_algorithms import calculate_drift_scores

    views = [_logged(whylogs, table, categorical) for table in (live, reference)]
    scores = calculate_drift_scores(*views, with_thresholds=True)
    return {
        name: (float(s["pvalue"]), s["drift_category"] == "DRIFT")
        for name, s in scores.items()
        if s
    }


def _logged(whylogs: Any, table: Frame, categorical: list[str]) -> Any:
    return whylogs.log(pandas=table.astype(dict.fromkeys(categorical, str))).view()


def nannyml_judge(reference: Frame, live: Frame, categorical: list[str]) -> Found:
    """Return NannyML's verdict: thresholds from chunks of the reference, as long as the window."""
    import nannyml

    calculator = nannyml.UnivariateDriftCalculator(
        column_names=list(reference), treat_as_categorical=categorical, chunk_size=len(live)
    )
    result = calculator.fit(reference).calculate(live).filter(period="analysis").to_df()
    found = {}
    for name in reference:
        row = result[name]["jensen_shannon"].iloc[0]
        found[name] = float(row["value"]), bool(row["alert"])
    return found


def judges() -> Iterator[tuple[str, Callable[[Frame, Frame, list[str]], Found]]]:
    """Name every setting that is looked at."""
    yield "evidently, its own choice", evidently_judge(None)
    yield "evidently, psi", evidently_judge("psi")
    yield "whylogs", whylogs_judge
    yield "nannyml", nannyml_judge


def main(path: str) -> None:
    """Print one row for every setting and kind of window."""
    with np.load(path) as arrays:
        names = [str(name) for name in arrays["names"]]
        chosen = [n for n, is_so in zip(names, arrays["categorical"]) if is_so]  # noqa: B905
        reference = pd.DataFrame(arrays["reference"], columns=names)
        kinds = {k.removeprefix("windows_"): arrays[k] for k in arrays if k.startswith("windows_")}
    rows = []
    for judge_name, judge in judges():
        for kind, windows in kinds.items():
            found = [judge(reference, pd.DataFrame(w, columns=names), chosen) for w in windows]
            rows.append(
                {
                    "tool": judge_name,
                    "windows": kind,
                    "any_column": float(np.mean([any(d for _, d in f.values()) for f in found])),
                    "half_of_columns": float(
                        np.mean([np.mean([d for _, d in f.values()]) >= 0.5 for f in found])
                    ),
                    "figures": {n: found[0][n][0] for n in found[0]},
                }
            )
    json.dump(rows, sys.stdout)


if __name__ == "__main__":
    main(sys.argv[1])
