"""Trainings in the browser: data sets, settings, runs as folders, their curves, and models made of them."""
