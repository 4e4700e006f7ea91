"""Do explanations name what answers rest on? Removal of tokens in their order, against random order."""
