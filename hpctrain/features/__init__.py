"""Tables of features or latents as the offline source of a feature store; no torch, and no Feast either."""
