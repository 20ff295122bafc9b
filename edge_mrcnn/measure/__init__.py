"""Speed, size and surroundings of models: what a table of accuracies needs beside it to be fair."""
