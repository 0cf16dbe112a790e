"""Confusion matrix to scores, under the predicted and the oracle gate."""
