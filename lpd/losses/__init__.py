"""Pure tensor functions: classification, similarity, diversity."""
