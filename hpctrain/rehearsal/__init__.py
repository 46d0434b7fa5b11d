"""Steps of the trainer outside a run: a step of a run done again, and a sweep of learning rates.

Everything happens in a temporary run directory that is removed afterwards, in one process on a CPU or GPU.
"""
