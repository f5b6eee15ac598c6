"""Measuring on a device: driving the runner there, and figures that do not flatter."""

from edgekit.benchmarking.drive import Settings, benchmark
from edgekit.benchmarking.duels import Contestant, Duel, duel
from edgekit.benchmarking.results import as_json, latency_figures, load, save
from edgekit.benchmarking.statistics import LatencyFigures, figures

__all__ = [
    "Contestant",
    "Duel",
    "LatencyFigures",
    "Settings",
    "as_json",
    "benchmark",
    "duel",
    "figures",
    "latency_figures",
    "load",
    "save",
]
