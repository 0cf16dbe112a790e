"""Recipe: all settings of a training, presets, and the way from words to settings; without torch, for the app too."""
