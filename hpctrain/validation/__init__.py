"""How far a model can be believed: held-out predictions beside the truth, with metrics and intervals. No torch here."""
