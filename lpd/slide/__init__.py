"""The only room with OpenSlide: opening, resolution, regions, tissue, tile geometry."""
