"""Figures of the tasks, as plain values (:mod:`hpctrain.drawing.described`)."""
