"""What the prototypes of a class do: how alike they are, and how they share its tissue."""
