"""What families that learn labels share: the list of labels in the profile, their losses, metrics and uncertainty."""
