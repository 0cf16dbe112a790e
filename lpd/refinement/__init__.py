"""Class probabilities refined by the colours of the image: PAMR and a fully connected CRF; pure tensor functions."""
