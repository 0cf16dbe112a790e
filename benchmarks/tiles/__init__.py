"""How fast tiles come, alone and while a slide is segmented, as ratios measured in one run."""
