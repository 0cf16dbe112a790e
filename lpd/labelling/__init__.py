"""Data sets from slides: people tick which classes a tile shows; what they say becomes a tile set to train on."""
