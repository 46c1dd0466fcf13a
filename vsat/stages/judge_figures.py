"""The judge's figures as SVG elements: error by level, and whether the uncertainty is true."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from vsat.stages.verdict import Calibration, Row, Verdict

# Paul Tol's bright scheme: told apart in any kind of colour vision.
COLOURS = {"nearest": "#bbbbbb", "linear": "#ccbb44", "whittaker": "#228833", "harmonic": "#aa3377", "blend": "#4477aa"}
OTHERS = ("#ee6677", "#66ccee", "#222222")
AXIS = {"gaps": "gap, days", "forecast": "days beyond the last look", "thinning": "dates hidden, %"}
INK = "#333333"


def level_figure(verdict: Verdict, source: str) -> str:
    """Mean absolute error against the level, a panel for each protocol that has levels; "" if nothing has.

    Baselines with scene regression are left out: of a date that is hidden whole they are the same as without.
    """
    rows = [row for row in verdict.rows if row.source == source and row.group == "all" and row.band == "mean"]
    rows = [row for row in rows if row.mae is not None and row.level]
    protocols = [name for name in AXIS if any(row.protocol == name for row in rows)]
    if not protocols:
        return ""
    plain = [name for name in verdict.baselines if not name.endswith("+scene")]
    figure, panels = _panels(len(protocols))
    for panel, protocol in zip(panels, protocols, strict=True):
        here = [row for row in rows if row.protocol == protocol]
        for method in (*plain, *verdict.methods):
            _line(panel, [row for row in here if row.method == method], method, verdict)
        levels = sorted({row.level for row in here})
        if protocol != "thinning":
            panel.set_xscale("log", base=2)
        panel.set_xticks(levels, [str(level) for level in levels])
        panel.minorticks_off()
        panel.set_title(protocol)
        panel.set_xlabel(AXIS[protocol])
        panel.set_ylim(bottom=0)
        panel.grid(color="#e5e5e5", lw=0.6)
    panels[0].set_ylabel("mean absolute error")
    handles, labels = panels[0].get_legend_handles_labels()
    columns = min(len(labels), 2 * len(protocols))
    figure.legend(handles, labels, loc="outside lower center", ncols=columns, fontsize=8, frameon=False)
    return _svg(figure, f"error by level, {source}")


def calibration_figure(found: Sequence[Calibration], title: str) -> str:
    """PIT histogram and error against predicted SD, a column per calibration (one method's protocols); "" for none."""
    if not found:
        return ""
    figure, panels = _panels(len(found), rows=2)
    for i, one in enumerate(found):
        _histogram(panels[i], one)
        _reliability(panels[len(found) + i], one)
    panels[0].set_ylabel("share of values")
    panels[len(found)].set_ylabel("true error (RMS)")
    return _svg(figure, title)


def _panels(columns: int, rows: int = 1) -> tuple[Any, list[Any]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    mpl.rcParams.update({"svg.hashsalt": "vsat", "svg.fonttype": "none", "font.size": 9})
    figure = Figure(figsize=(max(4.2, 3.3 * columns), 2.9 * rows + 0.5), layout="constrained")
    panels = list(figure.subplots(rows, columns, squeeze=False).ravel())
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
    return figure, panels


def _line(panel: Any, rows: Sequence[Row], method: str, verdict: Verdict) -> None:
    if not rows:
        return
    ordered = sorted(rows, key=lambda row: row.level)
    plain = method.removesuffix("+scene")
    judged = method in verdict.methods
    colour = COLOURS.get(plain, OTHERS[verdict.methods.index(method) % len(OTHERS)] if judged else INK)
    panel.plot(
        [row.level for row in ordered],
        [row.mae for row in ordered],
        color=colour,
        lw=2.6 if judged else 1.2,
        marker="o" if judged else "",
        ms=4,
        zorder=3 if judged else 2,
        label=method,
    )


def _histogram(panel: Any, one: Calibration) -> None:
    """Flat where the distribution is right; a hill where it is too wide, a bowl where it is too narrow."""
    bins = len(one.pit)
    panel.bar((np.arange(bins) + 0.5) / bins, one.pit, 0.92 / bins, color="#4477aa")
    panel.axhline(1 / bins, color=INK, lw=1, ls=(0, (4, 2)))
    panel.set_title(f"{one.protocol}: where the truth lay", fontsize=9)
    panel.set_xlabel("level of the predicted distribution")
    panel.set_xlim(0, 1)


def _reliability(panel: Any, one: Calibration) -> None:
    shown = [i for i, count in enumerate(one.values) if count >= 30]
    sd, rmse = ([values[i] for i in shown] for values in (one.sd, one.rmse))
    top = 1.1 * max([*sd, *rmse, 1e-3])
    panel.plot([0, top], [0, top], color=INK, lw=1, ls=(0, (4, 2)))
    panel.plot(sd, rmse, color="#4477aa", marker="o", ms=4, lw=1.4)
    panel.set_title(f"{one.protocol}: error by predicted SD", fontsize=9)
    panel.set_xlabel("predicted SD")
    panel.set_xlim(0, top)
    panel.set_ylim(0, top)


def _svg(figure: Any, title: str) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None, "Title": title})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
