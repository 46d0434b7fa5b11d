"""Random forests and gradient boosting that learn labels of catalogues, tree by tree."""
