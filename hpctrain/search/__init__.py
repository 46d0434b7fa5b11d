"""Hyper-parameter search: a study is one YAML file, one job array, and one run directory per trial.

The run directories hold the truth. What a trial was asked to try is in its ``trial.json``; how far it came is in its
own records. No file is shared that a killed process could tear, and no process has to stay alive. Optuna samples
from a study in memory that is made from these files each time.

Modules: the study file (:mod:`~hpctrain.search.section`, :mod:`~hpctrain.search.study_file`), the parameters
(:mod:`~hpctrain.search.space`), the folder (:mod:`~hpctrain.search.folder`), the state of each trial
(:mod:`~hpctrain.search.trials`), Optuna (:mod:`~hpctrain.search.sampling`), and a trial's way: asked
(:mod:`~hpctrain.search.ask`), trained (:mod:`~hpctrain.search.rank`), judged (:mod:`~hpctrain.search.referee`).
"""
