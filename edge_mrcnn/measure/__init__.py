"""Speed, size and surroundings of models, for fair comparisons."""
