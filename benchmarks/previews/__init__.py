"""The shipped previews and their cards, made by one command."""
