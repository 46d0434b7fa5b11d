"""The families of models, one folder each, their contract, and how a finished model is stored."""
