"""How far few tiles go: the labels of ten minutes against all there are, from this encoder or that."""
